Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.FusionTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Fusion, Machine, Outcome}

  @moduletag :tmp_dir

  test "says which state holds, and asks for a compiler only where it would be used",
       %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    mac = put_in(machine.host.os, "macos")
    absent = "off on the CPU: g++ is not in PATH"

    cases = [
      {machine, :ignored, "g++ 14.2.0",
       Outcome.ok("off on the CPU: this VM ignores SIGCHLD (g++ 14.2.0)")},
      {machine, :ignored, nil,
       Outcome.ok("off on the CPU: this VM ignores SIGCHLD (g++ is not in PATH)")},
      {machine, :default, "g++ 14.2.0", Outcome.ok("on, with g++ 14.2.0")},
      {machine, :unknown, "g++ 14.2.0",
       Outcome.ok("on if this VM heeds SIGCHLD, with g++ 14.2.0")},
      {machine, :default, nil, Outcome.warning(absent, "sudo apt-get install g++")},
      {mac, :unknown, nil, Outcome.warning(absent, "xcode-select --install")}
    ]

    for {machine, sigchld, compiler, expected} <- cases do
      machine = %{machine | sigchld: fn -> sigchld end, compiler: fn -> compiler end}
      assert Fusion.run(machine, %{}) == expected
    end
  end
end
