Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.LibrariesTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Libraries, Machine, Outcome}

  @moduletag :tmp_dir

  setup %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    %{machine: machine, facts: Machine.facts(machine)}
  end

  test "counts what it found", %{machine: machine, facts: facts} do
    assert Libraries.run(machine, facts) == Outcome.ok("2 of 2 found")

    assert Libraries.run(machine, %{facts | files: %{origin: :source}}) ==
             Outcome.ok("built here from source, with this machine's")
  end

  test "names what is missing and where it comes from", %{machine: machine, facts: facts} do
    cases = [
      {["libc.so.6", "libstdc++.so.6", "libgcc_s.so.1"], "libstdc++.so.6, libgcc_s.so.1",
       "sudo apt-get install libstdc++6 libgcc-s1"},
      {["libcuda.so.1", "libcudart.so.12"], "libcuda.so.1, libcudart.so.12",
       "install the NVIDIA driver, which brings libcuda.so.1"},
      {["libcudnn.so.9", "libgcc_s.so.1"], "libcudnn.so.9, libgcc_s.so.1",
       "install what provides libcudnn.so.9, and name its folder in LD_LIBRARY_PATH"}
    ]

    machine = put_in(machine.host.libraries, %{"libc.so.6" => "/lib/libc.so.6"})

    for {needed, missing, next} <- cases do
      facts = put_in(facts.files.manifest.requires.libraries, needed)
      assert Libraries.run(machine, facts) == Outcome.error("not found: #{missing}", next)
    end
  end
end
