defmodule Emily.Artifact.LocalFile do
  @moduledoc """
  A file of a release in a folder of this machine, named by a `file://` address: what a machine
  without a network installs from.

  It is read as an answer over HTTP is, so that what is verified and what is limited is the same.
  """

  alias Emily.Artifact.{Http, HttpError}

  @piece_bytes 1_048_576

  @doc """
  The path that a `file://` address stands for.

      iex> Emily.Artifact.LocalFile.path("file:///mnt/a%20mirror/x.tar.gz")
      {:ok, "/mnt/a mirror/x.tar.gz"}

      iex> Emily.Artifact.LocalFile.path("file://mirror/x.tar.gz")
      :error
  """
  @spec path(String.t()) :: {:ok, Path.t()} | :error
  def path(url) do
    case URI.parse(url) do
      %URI{scheme: "file", host: host, path: "/" <> _ = path}
      when host in [nil, "", "localhost"] ->
        {:ok, URI.decode(path)}

      _other ->
        :error
    end
  end

  @doc """
  The `file://` address of a folder; ends with a slash.

      iex> Emily.Artifact.LocalFile.address("/mnt/a mirror")
      "file:///mnt/a%20mirror/"
  """
  @spec address(Path.t()) :: String.t()
  def address(folder) do
    path = folder |> Path.expand() |> URI.encode(&(URI.char_unreserved?(&1) or &1 == ?/))
    "file://" <> String.trim_trailing(path, "/") <> "/"
  end

  @doc "Feeds the file at an address to a sink, as `Emily.Artifact.Http.get/5` does."
  @spec get(String.t(), acc, Http.sink(acc)) :: {:ok, acc} | {:error, Exception.t(), acc}
        when acc: var
  def get(url, acc, sink) do
    with {:ok, path} <- address_path(url),
         {:ok, %File.Stat{size: size}} <- File.stat(path),
         {:ok, io} <- :file.open(path, [:read, :raw, :binary]) do
      try do
        feed(io, url, size, acc, sink)
      after
        :file.close(io)
      end
    else
      {:error, reason} -> {:error, failure(url, reason), acc}
    end
  end

  defp address_path(url), do: with(:error <- path(url), do: {:error, :bad_address})

  defp feed(io, url, size, acc, sink) do
    case sink.start.(%{"content-length" => Integer.to_string(size)}, acc) do
      {:ok, acc} -> pieces(io, url, acc, sink)
      {:error, error} -> {:error, error, acc}
    end
  end

  defp pieces(io, url, acc, sink) do
    case :file.read(io, @piece_bytes) do
      {:ok, bytes} ->
        case sink.chunk.(bytes, acc) do
          {:ok, acc} -> pieces(io, url, acc, sink)
          {:error, error} -> {:error, error, acc}
        end

      :eof ->
        {:ok, acc}

      {:error, reason} ->
        {:error, failure(url, reason), acc}
    end
  end

  defp failure(url, :bad_address), do: Http.bad_address(url)
  defp failure(url, reason), do: %HttpError{url: Http.shown(url), reason: reason}
end
