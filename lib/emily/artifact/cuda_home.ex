defmodule Emily.Artifact.CudaHome do
  @moduledoc """
  The folder in which MLX looks for the headers of the kernels that it compiles for a GPU.

  MLX looks beside its library, where its own package has them, and in `CUDA_HOME`. A release has MLX's
  headers in one file, `mlx-headers.tar`, and CUDA's are the machine's. So both are brought together in a
  folder of the user's cache, which is made once for these headers and named to MLX as `CUDA_HOME`.
  """

  alias Emily.Artifact.{Cache, CacheError, Checksum}

  @headers "mlx-headers.tar"

  @doc """
  Makes the folder of a release's headers and the machine's, if there is none, and answers with it.

  `priv` has the release's file, `folders` are those of CUDA's headers. What several have is the
  release's, as MLX was compiled with it, or else the first folder's.
  """
  @spec make(Cache.t(), Path.t(), [Path.t()]) :: {:ok, Path.t()} | {:error, Exception.t()}
  def make(%Cache{} = cache, priv, folders) do
    tar = Path.join(priv, @headers)

    with {:ok, digest} <- digest(tar, folders) do
      home = Path.join([cache.folder, "cuda", digest])
      if File.dir?(home), do: {:ok, home}, else: open(cache, home, tar, folders)
    end
  end

  defp open(cache, home, tar, folders) do
    with :ok <- Cache.open(cache), do: fill(home, tar, folders)
  end

  # Another release's headers, or another CUDA's, make another folder.
  defp digest(tar, folders) do
    case Checksum.file(tar) do
      {:ok, digest} ->
        {:ok,
         binary_part(Checksum.of([digest | Enum.map(folders, &[0, Path.expand(&1)])]), 0, 16)}

      {:error, reason} ->
        {:error, failed(tar, reason)}
    end
  end

  defp fill(home, tar, folders) do
    draft = home <> "." <> Base.encode16(:crypto.strong_rand_bytes(6), case: :lower)
    inner = Path.join(draft, "include")

    with :ok <- File.mkdir_p(inner),
         :ok <- File.chmod(Path.dirname(home), 0o700),
         :ok <- extract(tar, inner),
         nil <- Enum.find_value(folders, &link_all(&1, inner)) do
      placed(draft, home)
    else
      {:error, reason} ->
        File.rm_rf(draft)
        {:error, failed(home, reason)}
    end
  end

  defp extract(tar, inner) do
    case :erl_tar.extract(String.to_charlist(tar), cwd: String.to_charlist(inner)) do
      :ok -> :ok
      {:error, {_name, reason}} -> {:error, reason}
      {:error, reason} -> {:error, reason}
    end
  end

  defp link_all(include, inner) do
    with {:ok, names} <- File.ls(include) do
      Enum.find_value(names, fn name ->
        case File.ln_s(Path.join(Path.expand(include), name), Path.join(inner, name)) do
          {:error, reason} when reason != :eexist -> {:error, reason}
          _linked_or_there -> nil
        end
      end)
    end
  end

  # Another VM may have been faster: its folder holds the same.
  defp placed(draft, home) do
    case File.rename(draft, home) do
      :ok ->
        {:ok, home}

      {:error, reason} ->
        File.rm_rf(draft)
        if File.dir?(home), do: {:ok, home}, else: {:error, failed(home, reason)}
    end
  end

  defp failed(path, reason) do
    %CacheError{path: path, action: "bring the headers for CUDA together", reason: reason}
  end
end
