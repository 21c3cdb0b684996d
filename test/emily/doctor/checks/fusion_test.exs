Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.FusionTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Fusion, Machine, Outcome}

  @moduletag :tmp_dir

  test "says which compiler fuses, or how to get one", %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    mac = put_in(machine.host.os, "macos")
    absent = "fuse: true is off on the CPU: no C++ compiler"
    install = "sudo apt-get install g++, or set EMILY_CXX to another compiler"

    cases = [
      {machine, "g++ 14.2.0", Outcome.ok("fuse: true works on the CPU, with g++ 14.2.0")},
      {machine, nil, Outcome.warning(absent, install)},
      {mac, nil, Outcome.warning(absent, "xcode-select --install")}
    ]

    for {machine, compiler, expected} <- cases do
      assert Fusion.run(%{machine | compiler: fn -> compiler end}, %{}) == expected
    end
  end
end
