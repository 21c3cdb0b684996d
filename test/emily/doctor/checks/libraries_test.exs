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

  describe "a variant for NVIDIA's GPUs" do
    setup %{tmp_dir: tmp, facts: facts} do
      facts = put_in(facts.files.manifest.variant, "cuda13")
      needed = ["libc.so.6", "libcudnn.so.9", "libnccl.so.2"]
      nvidia = Path.join(tmp, "nvidia")
      File.mkdir_p!(Path.join(nvidia, "cu13/include"))
      %{facts: put_in(facts.files.manifest.requires.libraries, needed), nvidia: nvidia}
    end

    test "has its packages named", %{machine: machine, facts: facts, nvidia: nvidia} do
      machine = put_in(machine.host.cuda_paths, [nvidia])

      assert Libraries.run(machine, facts) ==
               Outcome.error(
                 "not found: libcudnn.so.9, libnccl.so.2, cuda_fp16.h, crt",
                 "pip install nvidia-nccl-cu13 nvidia-cudnn-cu13 nvidia-cuda-runtime nvidia-cuda-crt, and " <>
                   "name the folder nvidia that they are in with `config :emily, cuda_path: …`",
                 details: [
                   {"libcudnn.so.9",
                    "pip's nvidia-cudnn-cu13, or libcudnn9-cuda-13 of NVIDIA's apt suite"},
                   {"libnccl.so.2", "pip's nvidia-nccl-cu13, or libnccl2 of NVIDIA's apt suite"},
                   {"cuda_fp16.h",
                    "pip's nvidia-cuda-runtime, or cuda-cudart-dev-13-0 of NVIDIA's apt suite"},
                   {"crt", "pip's nvidia-cuda-crt, or cuda-crt-13-0 of NVIDIA's apt suite"}
                 ]
               )

      facts = put_in(facts.files.manifest.requires.libraries, ["libcuda.so.1", "libcudnn.so.9"])

      assert %{
               next: "install the NVIDIA driver, which brings libcuda.so.1",
               details: [_, _, _, _]
             } =
               Libraries.run(machine, facts)
    end

    test "is well with all of them", %{machine: machine, facts: facts, nvidia: nvidia} do
      File.write!(Path.join(nvidia, "cu13/include/cuda_fp16.h"), "")
      libraries = Map.new(facts.files.manifest.requires.libraries, &{&1, "/lib/" <> &1})
      machine = put_in(machine.host.libraries, libraries)
      machine = put_in(machine.host.cuda_paths, [nvidia])

      assert %{status: :warning, message: message} = Libraries.run(machine, facts)
      assert message == "headers not found: crt, so MLX does not compile some kernels"

      File.mkdir_p!(Path.join(nvidia, "cu13/include/crt"))
      assert Libraries.run(machine, facts) == Outcome.ok("3 of 3 found")
    end
  end
end
