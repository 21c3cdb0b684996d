defmodule Emily.Artifact.Gunzip do
  @moduledoc """
  Reads a gzip file as a stream of small pieces: however much a hostile file would inflate to, no
  more of it ever exists than was asked for.

  A process of its own inflates one batch ahead of its reader, who writes and hashes meanwhile.
  """

  # 16 plus the largest window: a gzip header is expected.
  @gzip_window 31
  # What releases begin with: deflate, and no name, comment or other field. Decoders differ in these.
  @plain_header <<0x1F, 0x8B, 8, 0>>
  @read_bytes 262_144
  @batch_bytes 524_288

  @enforce_keys [:pid, :ref]
  defstruct @enforce_keys ++ [pieces: []]

  @opaque t :: %__MODULE__{pid: pid(), ref: reference(), pieces: [binary()]}

  @typedoc "Why there is no next piece."
  @type reason :: :damaged | :truncated | File.posix()

  @doc "Opens a file for the function and closes it after."
  @spec with_file(Path.t(), (t() -> result)) :: result | {:error, File.posix()} when result: var
  def with_file(path, function) do
    reader = self()
    ref = make_ref()
    pid = spawn_link(fn -> open(path, reader, ref) end)

    try do
      with :ok <- answer(ref) do
        send(pid, {ref, :more})
        function.(%__MODULE__{pid: pid, ref: ref})
      end
    after
      # A file and an inflater end with the process that opened them.
      Process.unlink(pid)
      Process.exit(pid, :kill)
      forget(ref)
    end
  end

  @doc "The next piece, never empty; `:eof` only after a complete stream."
  @spec next(t()) :: {:ok, binary(), t()} | :eof | {:error, reason()}
  def next(%__MODULE__{pieces: [piece | rest]} = stream) do
    {:ok, piece, %{stream | pieces: rest}}
  end

  def next(%__MODULE__{} = stream) do
    with {:ok, pieces} <- answer(stream.ref) do
      send(stream.pid, {stream.ref, :more})
      next(%{stream | pieces: pieces})
    end
  end

  # The process is linked: if it crashes, so does its reader.
  defp answer(ref) do
    receive do
      {^ref, answer} -> answer
    end
  end

  defp forget(ref) do
    receive do
      {^ref, _answer} -> forget(ref)
    after
      0 -> :ok
    end
  end

  ## The process that inflates

  defp open(path, reader, ref) do
    case :file.open(path, [:read, :raw, :binary]) do
      {:ok, io} ->
        zlib = :zlib.open()
        # :error refuses bytes after the end of the stream, such as a second one.
        :ok = :zlib.inflateInit(zlib, @gzip_window, :error)
        send(reader, {ref, :ok})
        serve(io, zlib, reader, ref, header(io))

      {:error, reason} ->
        send(reader, {ref, {:error, reason}})
    end
  end

  defp header(io) do
    case :file.pread(io, 0, byte_size(@plain_header)) do
      {:ok, @plain_header} -> :finished
      {:ok, bytes} when byte_size(bytes) == byte_size(@plain_header) -> {:error, :damaged}
      {:error, reason} -> {:error, reason}
      _less -> {:error, :truncated}
    end
  end

  defp serve(io, zlib, reader, ref, state) do
    receive do
      {^ref, :more} ->
        case batch(io, zlib, state, [], 0) do
          {:ok, pieces, state} ->
            send(reader, {ref, {:ok, pieces}})
            serve(io, zlib, reader, ref, state)

          ending ->
            send(reader, {ref, ending})
        end
    end
  end

  defp batch(_io, _zlib, {:error, reason}, [], 0), do: {:error, reason}

  # zlib has more to say about what it was given (:continue), or wants more of the file.
  defp batch(_io, _zlib, state, pieces, size) when size >= @batch_bytes do
    {:ok, Enum.reverse(pieces), state}
  end

  defp batch(io, zlib, :continue, pieces, size), do: inflate(io, zlib, [], pieces, size)

  defp batch(io, zlib, :finished, pieces, size) do
    case :file.read(io, @read_bytes) do
      {:ok, bytes} -> inflate(io, zlib, bytes, pieces, size)
      :eof when pieces == [] -> finish(zlib)
      :eof -> {:ok, Enum.reverse(pieces), :finished}
      {:error, reason} -> {:error, reason}
    end
  end

  defp inflate(io, zlib, bytes, pieces, size) do
    case safe_inflate(zlib, bytes) do
      {:error, reason} -> {:error, reason}
      {state, <<>>} -> batch(io, zlib, state, pieces, size)
      {state, piece} -> batch(io, zlib, state, [piece | pieces], size + byte_size(piece))
    end
  end

  defp safe_inflate(zlib, bytes) do
    {state, output} = :zlib.safeInflate(zlib, bytes)
    {state, IO.iodata_to_binary(output)}
  rescue
    _data_error in ErlangError -> {:error, :damaged}
  end

  # zlib knows whether it saw the end of the stream and a matching checksum.
  defp finish(zlib) do
    :zlib.inflateEnd(zlib)
    :eof
  rescue
    _data_error in ErlangError -> {:error, :truncated}
  end
end
