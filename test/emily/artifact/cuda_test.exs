defmodule Emily.Artifact.CudaTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Cuda, Targets}

  doctest Cuda

  # A machine with these folders.
  defp list(folders),
    do: fn path -> with :error <- Map.fetch(folders, path), do: {:error, :enoent} end

  @pip %{
    "/venv/nvidia" => ["cu13", "cudnn", "nccl"],
    "/venv/nvidia/cu13/lib" => [
      "libcublas.so.13",
      "libcublasLt.so.13",
      "libnvrtc-builtins.so.13.0",
      "libnvrtc.so.13"
    ],
    "/venv/nvidia/cu13/include" => ["cuda_fp16.h", "cuda_runtime.h"],
    "/venv/nvidia/cudnn/lib" => ["libcudnn.so.9", "libcudnn_graph.so.9"],
    "/venv/nvidia/cudnn/include" => ["cudnn.h"]
  }
  @toolkit %{
    "/opt/cuda" => ["include", "lib64"],
    "/opt/cuda/lib64" => ["libcublasLt.so.13", "libcufft.so.12"],
    "/opt/cuda/include" => ["crt", "cuda_fp16.h"]
  }

  test "libraries come from pip's folders, in the order in which they need each other" do
    assert Cuda.libraries("cuda13", ["/venv/nvidia"], list(@pip)) == [
             {"libnvrtc-builtins.so.13.0", "/venv/nvidia/cu13/lib/libnvrtc-builtins.so.13.0"},
             {"libnvrtc.so.13", "/venv/nvidia/cu13/lib/libnvrtc.so.13"},
             {"libcublasLt.so.13", "/venv/nvidia/cu13/lib/libcublasLt.so.13"},
             {"libcublas.so.13", "/venv/nvidia/cu13/lib/libcublas.so.13"},
             {"libcudnn.so.9", "/venv/nvidia/cudnn/lib/libcudnn.so.9"}
           ]
  end

  test "the first folder counts, and others have what it lacks" do
    found = fn paths ->
      Map.new(Cuda.libraries("cuda13", paths, list(Map.merge(@pip, @toolkit))))
    end

    both = found.(["/opt/cuda", "/absent", "/venv/nvidia"])
    assert both["libcublasLt.so.13"] == "/opt/cuda/lib64/libcublasLt.so.13"
    assert both["libcufft.so.12"] == "/opt/cuda/lib64/libcufft.so.12"
    assert both["libcudnn.so.9"] == "/venv/nvidia/cudnn/lib/libcudnn.so.9"
    pip_first = found.(["/venv/nvidia", "/opt/cuda"])
    assert pip_first["libcublasLt.so.13"] == "/venv/nvidia/cu13/lib/libcublasLt.so.13"
    assert Cuda.libraries("cuda12", ["/opt/cuda"], list(@toolkit)) == []
  end

  test "headers are a toolkit's or a package's, and not any headers" do
    find = fn paths -> Cuda.headers("cuda13", paths, list(Map.merge(@pip, @toolkit))) end
    assert find.(["/venv/nvidia"]) == {["/venv/nvidia/cu13/include"], ["crt"]}
    assert find.(["/absent", "/opt/cuda"]) == {["/opt/cuda/include"], []}

    both = ["/venv/nvidia/cu13/include", "/opt/cuda/include"]
    assert find.(["/venv/nvidia", "/opt/cuda"]) == {both, []}
    assert find.(["/absent"]) == {[], ["cuda_fp16.h", "crt"]}
  end

  test "every library that a variant may need of the system has its packages" do
    for variant <- Targets.variants(), needs = Cuda.needs(variant) do
      names = Enum.map(needs.libraries, & &1.name)

      assert Enum.sort(["libcuda.so.1" | names]) ==
               Enum.sort(Targets.variant!(variant)["system_libraries"])
    end
  end
end
