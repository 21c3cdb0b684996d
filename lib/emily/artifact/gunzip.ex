defmodule Emily.Artifact.Gunzip do
  @moduledoc """
  Reads a gzip file as a stream of small pieces: however much a hostile file would inflate to, no
  more of it ever exists than was asked for.
  """

  # 16 plus the largest window: a gzip header is expected.
  @gzip_window 31
  @read_bytes 262_144

  @enforce_keys [:io, :zlib]
  defstruct @enforce_keys ++ [pending: [], more?: false]

  @opaque t :: %__MODULE__{
            io: :file.io_device(),
            zlib: :zlib.zstream(),
            pending: [binary()],
            more?: boolean()
          }

  @typedoc "Why there is no next piece."
  @type reason :: :damaged | :truncated | File.posix()

  @doc "Opens a file for the function and closes it after."
  @spec with_file(Path.t(), (t() -> result)) :: result | {:error, File.posix()} when result: var
  def with_file(path, function) do
    with {:ok, io} <- :file.open(path, [:read, :raw, :binary]) do
      zlib = :zlib.open()

      try do
        # :error refuses bytes after the end of the stream, such as a second one.
        :ok = :zlib.inflateInit(zlib, @gzip_window, :error)
        function.(%__MODULE__{io: io, zlib: zlib})
      after
        :zlib.close(zlib)
        :file.close(io)
      end
    end
  end

  @doc "The next piece, never empty; `:eof` only after a complete stream."
  @spec next(t()) :: {:ok, binary(), t()} | :eof | {:error, reason()}
  def next(%__MODULE__{pending: [piece | rest]} = reader) do
    {:ok, piece, %{reader | pending: rest}}
  end

  def next(%__MODULE__{more?: true} = reader), do: inflate(reader, [])

  def next(%__MODULE__{} = reader) do
    case :file.read(reader.io, @read_bytes) do
      {:ok, bytes} -> inflate(reader, bytes)
      :eof -> finish(reader)
      {:error, reason} -> {:error, reason}
    end
  end

  defp inflate(reader, bytes) do
    {state, pieces} = :zlib.safeInflate(reader.zlib, bytes)
    pieces = for piece <- List.flatten([pieces]), piece != "", do: piece
    next(%{reader | pending: pieces, more?: state == :continue})
  rescue
    _data_error in ErlangError -> {:error, :damaged}
  end

  # zlib knows whether it saw the end of the stream and a matching checksum.
  defp finish(reader) do
    :zlib.inflateEnd(reader.zlib)
    :eof
  rescue
    _data_error in ErlangError -> {:error, :truncated}
  end
end
