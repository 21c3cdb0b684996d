defmodule Emily.Artifact.Shelf do
  @moduledoc """
  A folder with archives and what vouches for them, as a release's address serves it and as a
  `file://` address names it.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{ArchiveError, Checksum, Release, ShelfError}

  @doc """
  Puts a verified archive, its checksum and the checksum's signature into a folder.

  Each comes to its place by rename, the checksum last: whoever reads it finds the other two. The
  bytes are copied, so that no change there reaches the cache, and compared with the checksum.
  """
  @spec put(Path.t(), Artifact.t(), Path.t(), Release.t()) ::
          :ok | {:error, ShelfError.t() | ArchiveError.t()}
  def put(folder, %Artifact{} = artifact, archive, %Release{} = release) do
    folder = Path.expand(folder)

    with :ok <- wrap(File.mkdir_p(folder), folder),
         :ok <- place(folder, artifact.asset, &copy(archive, &1, release)),
         :ok <- place(folder, Artifact.signature(artifact), &File.write(&1, release.signature)) do
      place(folder, Artifact.sidecar(artifact), &File.write(&1, release.sidecar))
    end
  end

  defp copy(archive, path, release) do
    with :ok <- File.cp(archive, path),
         {:ok, digest} <- Checksum.file(path) do
      if digest == release.digest, do: :ok, else: {:error, :eio}
    end
  end

  # Under a name that nothing is served by, beside its place.
  defp place(folder, name, write) do
    path = Path.join(folder, name)
    draft = Path.join(folder, ".#{name}.draft")

    with :ok <- write.(draft),
         :ok <- File.rename(draft, path) do
      :ok
    else
      {:error, reason} ->
        File.rm(draft)
        wrap({:error, reason}, path)
    end
  end

  defp wrap(:ok, _path), do: :ok
  defp wrap({:error, reason}, path), do: {:error, %ShelfError{path: path, reason: reason}}
end
