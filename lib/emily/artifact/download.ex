defmodule Emily.Artifact.Download do
  @moduledoc """
  Fetches a file of a release: a small one into memory, an archive into a temporary file.

  A digest is computed while the bytes arrive. What arrived before a connection broke is kept, and
  the rest is asked for with a range request; a server that answers with the whole file instead
  starts it anew. Passing failures are repeated as `Emily.Artifact.Retry` says.
  """

  alias Emily.Artifact.{CacheError, Checksum, Client, Http, HttpError, Retry}

  # A connection that delivers this much before it breaks is slow going, not a failing server.
  @progress_bytes 1_048_576

  @enforce_keys [:client]
  defstruct @enforce_keys ++ [retry: %Retry{}, notify: &Function.identity/1]

  @typedoc "How to download: a client, when to repeat, and who hears of it."
  @type t :: %__MODULE__{
          client: Client.t(),
          retry: Retry.t(),
          notify: (Emily.Artifact.Install.event() -> any())
        }

  @doc "Gets a file of at most `max` bytes into memory."
  @spec to_memory(t(), String.t(), pos_integer()) :: {:ok, binary()} | {:error, Exception.t()}
  def to_memory(%__MODULE__{} = download, url, max) do
    sink = %{
      start: fn _headers, _pieces -> {:ok, []} end,
      chunk: fn bytes, pieces ->
        pieces = [pieces, bytes]
        if IO.iodata_length(pieces) > max, do: too_large(url, max), else: {:ok, pieces}
      end
    }

    repeat(download, [], fn pieces ->
      with {:ok, pieces} <- Http.get(download.client, url, [], pieces, sink) do
        {:ok, IO.iodata_to_binary(pieces)}
      end
    end)
  end

  @doc """
  Gets a file of at most `max` bytes into `path`, which must not exist, and returns its digest and
  size. What is at `path` after an error is of no use, and the caller's to remove.
  """
  @spec to_file(t(), String.t(), Path.t(), pos_integer()) ::
          {:ok, %{sha256: String.t(), size: non_neg_integer()}} | {:error, Exception.t()}
  def to_file(%__MODULE__{} = download, url, path, max) do
    with {:ok, io} <- open(path) do
      partial = %{
        io: io,
        path: path,
        url: url,
        max: max,
        notify: download.notify,
        hash: nil,
        size: 0,
        total: nil,
        tag: nil
      }

      try do
        with {:ok, partial} <- restart(partial) do
          repeat(download, partial, &fetch(download.client, &1))
        end
      after
        :file.close(io)
      end
    end
  end

  defp repeat(download, state, function) do
    Retry.run(download.retry, &download.notify.({:info, &1}), state, function)
  end

  defp open(path) do
    with {:error, reason} <- :file.open(path, [:write, :raw, :binary, :exclusive]) do
      {:error, %CacheError{path: path, action: "write the download", reason: reason}}
    end
  end

  # The file is emptied along with the digest: the two must never speak of different bytes.
  defp restart(%{io: io} = partial) do
    with {:ok, 0} <- :file.position(io, 0),
         :ok <- :file.truncate(io) do
      {:ok, %{partial | hash: :crypto.hash_init(:sha256), size: 0}}
    else
      {:error, reason} -> unwritable(partial, reason)
    end
  end

  defp fetch(client, before) do
    sink = %{start: &start/2, chunk: &chunk/2}

    case Http.get(client, before.url, range(before), before, sink) do
      {:ok, %{size: size, total: total} = partial} when total in [nil, size] ->
        {:ok, %{sha256: Checksum.finish(partial.hash), size: size}}

      {:ok, partial} ->
        broken(before, partial, %HttpError{url: Http.shown(partial.url), reason: :closed})

      # The file changed, or the range was not to the server's liking: all of it, then.
      {:error, %HttpError{reason: {:status, 416}}, partial} when partial.size > 0 ->
        case restart(partial) do
          {:ok, partial} -> fetch(client, partial)
          {:error, error} -> {:error, error, partial}
        end

      {:error, error, partial} ->
        broken(before, partial, error)
    end
  end

  defp broken(before, partial, error) do
    kind = if partial.size >= before.size + @progress_bytes, do: :progress, else: :error
    {kind, error, partial}
  end

  defp range(%{size: 0}), do: []
  defp range(%{size: size, tag: nil}), do: [{"range", "bytes=#{size}-"}]
  defp range(%{size: size, tag: tag}), do: [{"range", "bytes=#{size}-"}, {"if-range", tag}]

  defp start(headers, partial) do
    with {:ok, partial} <- position(headers, partial) do
      length = String.to_integer(headers["content-length"] || "0")
      total = if length > 0, do: partial.size + length
      partial = %{partial | total: total, tag: strong_tag(headers["etag"])}

      if is_integer(total) and total > partial.max do
        too_large(partial.url, partial.max, total)
      else
        {:ok, partial}
      end
    end
  end

  # An answer to a range request says where it begins; any other answer is the whole file.
  defp position(headers, %{size: size} = partial) do
    case Regex.run(~r/\Abytes (\d+)-/, headers["content-range"] || "", capture: :all_but_first) do
      [first] ->
        if String.to_integer(first) == size do
          {:ok, partial}
        else
          error = %HttpError{url: Http.shown(partial.url), reason: :unreadable}
          {:error, %{error | expected: "bytes from #{size}", actual: "bytes from #{first}"}}
        end

      nil when size == 0 ->
        {:ok, partial}

      nil ->
        restart(partial)
    end
  end

  # A weak tag does not promise the same bytes.
  defp strong_tag("W/" <> _tag), do: nil
  defp strong_tag(tag), do: tag

  defp chunk(bytes, partial) do
    size = partial.size + byte_size(bytes)

    if size > partial.max do
      too_large(partial.url, partial.max)
    else
      with :ok <- write(bytes, partial) do
        partial.notify.({:progress, size, partial.total})
        {:ok, %{partial | size: size, hash: :crypto.hash_update(partial.hash, bytes)}}
      end
    end
  end

  defp write(bytes, partial) do
    with {:error, reason} <- :file.write(partial.io, bytes), do: unwritable(partial, reason)
  end

  defp unwritable(partial, reason) do
    {:error, %CacheError{path: partial.path, action: "write the download", reason: reason}}
  end

  defp too_large(url, max, actual \\ nil) do
    {:error,
     %HttpError{
       url: Http.shown(url),
       reason: :too_large,
       expected: "at most #{max} bytes",
       actual: "#{actual || "more"}#{if actual, do: " bytes"}"
     }}
  end
end
