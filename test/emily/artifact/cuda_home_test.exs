defmodule Emily.Artifact.CudaHomeTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Cache, CacheError, CudaHome}

  @moduletag :tmp_dir

  setup %{tmp_dir: tmp} do
    folder = Path.join(tmp, "cache")
    include = Path.join(tmp, "toolkit/include")
    File.mkdir_p!(Path.join(include, "crt"))
    File.mkdir_p!(Path.join(include, "cuda/std"))
    File.write!(Path.join(include, "cuda_fp16.h"), "CUDA's")
    File.write!(Path.join(include, "crt/host.h"), "CUDA's")
    File.write!(Path.join(include, "cuda/std/array"), "of another version")

    priv = Path.join(tmp, "priv")
    File.mkdir_p!(priv)
    pack(priv, [{"cuda/std/array", "MLX's"}, {"cute/tensor.hpp", "MLX's"}])

    %{
      cache: %Cache{folder: folder, root: Path.join(folder, "v1")},
      include: include,
      priv: priv
    }
  end

  defp pack(priv, files) do
    entries = for {name, text} <- files, do: {String.to_charlist(name), text}
    :ok = :erl_tar.create(String.to_charlist(Path.join(priv, "mlx-headers.tar")), entries)
  end

  test "has MLX's headers and CUDA's, and where both have one, MLX's", context do
    assert {:ok, home} = CudaHome.make(context.cache, context.priv, [context.include])
    read = fn name -> File.read!(Path.join([home, "include", name])) end

    for {name, text} <- [
          {"cuda/std/array", "MLX's"},
          {"cute/tensor.hpp", "MLX's"},
          {"cuda_fp16.h", "CUDA's"},
          {"crt/host.h", "CUDA's"}
        ] do
      assert {name, read.(name)} == {name, text}
    end

    assert Path.dirname(home) == Path.join(context.cache.folder, "cuda")
    assert File.ls!(Path.dirname(home)) == [Path.basename(home)]
    assert Bitwise.band(File.stat!(Path.dirname(home)).mode, 0o777) == 0o700
  end

  test "has the headers of several folders, the first one's before others'", context do
    other = Path.join(context.include, "../other")
    File.mkdir_p!(other)
    for name <- ["cuda_fp16.h", "mma.h"], do: File.write!(Path.join(other, name), "the other's")
    {:ok, home} = CudaHome.make(context.cache, context.priv, [context.include, other])
    read = fn name -> File.read!(Path.join([home, "include", name])) end
    assert {read.("cuda_fp16.h"), read.("mma.h")} == {"CUDA's", "the other's"}
  end

  test "is made once, and anew for other headers", context do
    make = fn -> CudaHome.make(context.cache, context.priv, [context.include]) end
    {:ok, first} = make.()
    File.write!(Path.join(first, "mark"), "")
    assert make.() == {:ok, first}
    assert File.exists?(Path.join(first, "mark"))

    pack(context.priv, [{"cute/tensor.hpp", "newer"}])
    {:ok, second} = make.()
    refute second == first
    assert File.read!(Path.join(second, "include/cute/tensor.hpp")) == "newer"
  end

  test "is refused without MLX's headers, and leaves nothing behind", context do
    tar = Path.join(context.priv, "mlx-headers.tar")
    File.write!(tar, "no archive")

    assert {:error, %CacheError{} = error} =
             CudaHome.make(context.cache, context.priv, [context.include])

    assert Exception.message(error) =~ "could not bring the headers for CUDA together"
    assert File.ls!(Path.join(context.cache.folder, "cuda")) == []

    File.rm!(tar)

    assert {:error, %CacheError{path: ^tar, reason: :enoent}} =
             CudaHome.make(context.cache, context.priv, [context.include])
  end
end
