defmodule Emily.Doctor.VmTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.Vm

  test "reads the mapped libraries, each once" do
    maps = """
    55d0c000-55d0d000 r--p 00000000 00:1f 2  /usr/lib/erlang/erts-15.2.7/bin/beam.smp
    7f10a000-7f10b000 r--p 00000000 00:1f 3  /usr/lib/x86_64-linux-gnu/libm.so.6
    7f10b000-7f10c000 r-xp 00001000 00:1f 3  /usr/lib/x86_64-linux-gnu/libm.so.6
    7f10d000-7f10e000 r-xp 00001000 00:1f 4  /home/a user/priv/libemily.so
    7ffc0000-7ffd0000 rw-p 00000000 00:00 0  [stack]
    """

    assert Vm.mapped_libraries({:ok, maps}) ==
             ["/usr/lib/x86_64-linux-gnu/libm.so.6", "/home/a user/priv/libemily.so"]

    assert Vm.mapped_libraries({:error, :enoent}) == []
  end

  @tag :tmp_dir
  test "asks the g++ that is in PATH for its version", %{tmp_dir: tmp} do
    assert Vm.compiler("g++", tmp) == nil

    compiler = Path.join(tmp, "g++")
    File.write!(compiler, "#!/bin/sh\necho 'g++ (Test) 14.2.0'\necho more\n")
    File.chmod!(compiler, 0o755)
    assert Vm.compiler("g++", tmp) == "g++ (Test) 14.2.0"

    assert Vm.compiler(compiler, "") == "g++ (Test) 14.2.0"

    File.write!(compiler, "#!/bin/sh\nexit 1\n")
    assert Vm.compiler("g++", tmp) == nil
  end
end
