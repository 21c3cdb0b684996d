defmodule Emily.Artifact.Archive do
  @moduledoc """
  Unpacks an archive in one pass, and refuses whatever the install contract does not allow.

  `manifest.json` comes first and says which files follow, of which size and digest. Every header
  is judged before its bytes are read, so that a hostile archive costs no more than an honest one:
  an entry must be a regular file of the allow-list, named once, of exactly the manifest's size.
  """

  alias Emily.Artifact
  alias Emily.Artifact.{ArchiveError, CacheError, Checksum, Gunzip, Manifest, Tar}

  # What tar programs put after the last entry: zeros up to a multiple of this.
  @max_trailing_zeros 20 * 512

  defstruct [:reader, :path, buffer: ""]

  @typep t :: %__MODULE__{reader: Gunzip.t(), path: Path.t(), buffer: binary()}

  @doc """
  Reads the manifest of an archive and nothing more.
  """
  @spec manifest(Path.t(), Artifact.t()) ::
          {:ok, Manifest.t(), text :: binary()} | {:error, Exception.t()}
  def manifest(path, %Artifact{} = artifact) do
    with_archive(path, fn archive ->
      {text, manifest, _archive} = first(archive, artifact)
      {:ok, manifest, text}
    end)
  end

  @doc """
  Unpacks an archive into a folder that exists and is empty.

  `accept` sees the manifest before any other file is read, and may refuse it with an error.
  After an error the folder may hold a part of the archive; it is the caller's to remove.
  """
  @spec unpack(Path.t(), Path.t(), Artifact.t(), (Manifest.t() -> :ok | {:error, Exception.t()})) ::
          {:ok, Manifest.t()} | {:error, Exception.t()}
  def unpack(path, folder, %Artifact{} = artifact, accept) do
    with_archive(path, fn archive ->
      {text, manifest, archive} = first(archive, artifact)

      with :ok <- accept.(manifest),
           :ok <- write_manifest(folder, text) do
        expected = Map.new(manifest.files, &{&1.name, &1})
        rest(archive, folder, artifact, expected, MapSet.new([Manifest.name()]))
        {:ok, manifest}
      end
    end)
  end

  # A refusal is thrown from wherever it is found, and is the result.
  defp with_archive(path, function) do
    case Gunzip.with_file(path, &function.(%__MODULE__{reader: &1, path: path})) do
      {:error, reason} when is_atom(reason) ->
        {:error, %CacheError{path: path, action: "read the archive", reason: reason}}

      result ->
        result
    end
  catch
    {:refused, error} -> {:error, error}
  end

  defp first(archive, artifact) do
    name = Manifest.name()

    {size, archive} =
      case header(archive) do
        {%{name: ^name, kind: :file, size: size}, archive} -> {size, archive}
        {%{name: ^name, kind: kind}, _archive} -> refuse(archive, name, "a regular file", kind)
        {%{name: other}, _archive} -> refuse(archive, other, "#{name} as the first entry", other)
        {:end, _archive} -> refuse(archive, nil, "#{name} as the first entry", "no entry")
      end

    max = Manifest.max_bytes()
    if size > max, do: refuse(archive, name, "at most #{max} bytes", "#{size} bytes")

    {text, archive} = take(archive, size)
    {_padding, archive} = take(archive, Tar.padding(size))

    with {:ok, manifest} <- Manifest.decode(text),
         :ok <- Manifest.check(manifest, artifact) do
      {text, manifest, archive}
    else
      {:error, error} -> throw({:refused, %{error | path: archive.path}})
    end
  end

  defp write_manifest(folder, text) do
    path = Path.join(folder, Manifest.name())
    with {:error, reason} <- File.write(path, text, [:exclusive]), do: unwritable(path, reason)
  end

  defp rest(archive, folder, artifact, expected, seen) do
    case header(archive) do
      {:end, archive} ->
        finish(archive)
        all_there(archive, expected, seen)

      {entry, archive} ->
        judge(archive, entry, artifact, expected, seen)
        archive = extract(archive, Path.join(folder, entry.name), entry, expected[entry.name])
        rest(archive, folder, artifact, expected, MapSet.put(seen, entry.name))
    end
  end

  defp judge(archive, %{name: name, kind: kind, size: size}, artifact, expected, seen) do
    parts = String.split(name, "/")

    cond do
      String.starts_with?(name, "/") ->
        refuse(archive, name, "a plain file name", "an absolute path")

      ".." in parts ->
        refuse(archive, name, "a plain file name", "a path through ..")

      kind != :file ->
        refuse(archive, name, "a regular file", kind)

      length(parts) > 1 ->
        refuse(archive, name, "a plain file name", "a path with folders")

      name in seen ->
        refuse(archive, name, "every entry once", "a duplicate")

      name not in artifact.files ->
        refuse(archive, name, "a file of the allow-list", "an unlisted file")

      expected[name] == nil ->
        refuse(archive, name, "a file of the manifest", "a file that it does not list")

      size != expected[name].size ->
        refuse(archive, name, "#{expected[name].size} bytes", "#{size} bytes")

      true ->
        :ok
    end
  end

  defp all_there(archive, expected, seen) do
    case Enum.find(Map.keys(expected), &(&1 not in seen)) do
      nil -> :ok
      missing -> refuse(archive, missing, "every file of the manifest", "no such entry")
    end
  end

  # What follows the end is padding; more than that, or anything but zeros, is not.
  defp finish(archive), do: finish(%{archive | buffer: ""}, archive.buffer, 0)

  defp finish(archive, padding, zeros) do
    zeros = zeros + byte_size(padding)

    if zeros > @max_trailing_zeros or padding != :binary.copy(<<0>>, byte_size(padding)) do
      refuse(archive, nil, "nothing after the last entry", "more bytes")
    end

    case Gunzip.next(archive.reader) do
      {:ok, piece, reader} -> finish(%{archive | reader: reader}, piece, zeros)
      :eof -> :ok
      {:error, reason} -> unreadable(archive, reason)
    end
  end

  defp extract(archive, path, entry, file) do
    case :file.open(path, [:write, :raw, :binary, :exclusive]) do
      {:ok, io} ->
        try do
          {digest, archive} = pour(archive, entry.size, io, path, :crypto.hash_init(:sha256))

          if digest != file.sha256 do
            refuse(archive, entry.name, "sha256 #{file.sha256}", "sha256 #{digest}")
          end

          # Only what a library needs; never set-user-id, nor writable by others.
          File.chmod(path, Bitwise.band(entry.mode, 0o755))
          {_padding, archive} = take(archive, Tar.padding(entry.size))
          archive
        after
          :file.close(io)
        end

      {:error, reason} ->
        throw({:refused, elem(unwritable(path, reason), 1)})
    end
  end

  defp pour(archive, 0, _io, _path, hash), do: {Checksum.finish(hash), archive}

  defp pour(archive, left, io, path, hash) do
    {piece, archive} = some(archive, left)

    case :file.write(io, piece) do
      :ok -> pour(archive, left - byte_size(piece), io, path, :crypto.hash_update(hash, piece))
      {:error, reason} -> throw({:refused, elem(unwritable(path, reason), 1)})
    end
  end

  defp unwritable(path, reason) do
    {:error, %CacheError{path: path, action: "unpack the archive", reason: reason}}
  end

  @spec header(t()) :: {Tar.entry() | :end, t()}
  defp header(archive) do
    {block, archive} = take(archive, Tar.block())

    case Tar.decode(block) do
      {:ok, entry} -> {entry, archive}
      :end -> {:end, archive}
      {:error, what} -> refuse(archive, nil, "a tar header", what)
    end
  end

  # Exactly so many bytes: headers, padding and the manifest, all of them small.
  defp take(archive, count, taken \\ [])
  defp take(archive, 0, taken), do: {IO.iodata_to_binary(taken), archive}

  defp take(archive, count, taken) do
    {piece, archive} = some(archive, count)
    take(archive, count - byte_size(piece), [taken, piece])
  end

  # At least one and at most so many bytes, without copying.
  defp some(%{buffer: ""} = archive, count) do
    case Gunzip.next(archive.reader) do
      {:ok, piece, reader} -> some(%{archive | reader: reader, buffer: piece}, count)
      :eof -> refuse(archive, nil, "a complete archive", "one that ends early")
      {:error, reason} -> unreadable(archive, reason)
    end
  end

  defp some(%{buffer: buffer} = archive, count) when byte_size(buffer) <= count do
    {buffer, %{archive | buffer: ""}}
  end

  defp some(%{buffer: buffer} = archive, count) do
    <<piece::binary-size(count), rest::binary>> = buffer
    {piece, %{archive | buffer: rest}}
  end

  @spec unreadable(t(), Gunzip.reason()) :: no_return()
  defp unreadable(archive, :truncated),
    do: refuse(archive, nil, "a complete gzip file", "one that ends early")

  defp unreadable(archive, :damaged), do: refuse(archive, nil, "a gzip file", "damaged data")

  defp unreadable(archive, reason) do
    throw({:refused, %CacheError{path: archive.path, action: "read the archive", reason: reason}})
  end

  @spec refuse(t(), String.t() | nil, String.t(), String.t()) :: no_return()
  defp refuse(archive, entry, expected, actual) do
    error = %ArchiveError{
      path: archive.path,
      entry: entry && shown(entry),
      expected: expected,
      actual: shown(actual)
    }

    throw({:refused, error})
  end

  # A name is whatever bytes someone put there; a terminal must not act on them.
  defp shown(text), do: if(String.printable?(text), do: text, else: inspect(text))
end
