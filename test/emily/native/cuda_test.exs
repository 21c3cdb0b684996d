defmodule Emily.Native.CudaTest do
  use ExUnit.Case, async: true

  alias Emily.Native.Cuda

  @moduletag :tmp_dir

  defp manifest(variant) do
    JSON.encode!(%{
      schema: 1,
      package: "emily",
      version: "0.8.0",
      variant: variant,
      target: "linux-x86_64",
      nif_version: "2.17",
      mlx: %{version: "0.32.2", mlx_c: "0.7.0", from: "wheel"},
      requires: %{libraries: []},
      files: [%{name: "libemily.so", size: 1, sha256: String.duplicate("a", 64)}]
    })
  end

  test "there is nothing to prepare where no library is for CUDA", %{tmp_dir: priv} do
    assert Cuda.prepare(priv) == :ok
  end

  test "what another variant left is not loaded, and what does not load is named", %{
    tmp_dir: priv
  } do
    File.write!(Path.join(priv, "libemily_cuda.so"), "no library")
    File.write!(Path.join(priv, "manifest.json"), manifest("cpu"))
    assert Cuda.prepare(priv) == :ok

    File.write!(Path.join(priv, "manifest.json"), manifest("cuda13"))
    assert {:error, text} = Cuda.prepare(priv)
    assert text =~ Path.join(priv, "libemily_cuda")
  end
end
