defmodule Emily.Artifact.Http do
  @moduledoc """
  One GET request whose body is handed on piece by piece, with redirects followed.

  Addresses are `https` ones, `http` ones of this very machine, or `file` ones; see
  `Emily.Artifact.LocalFile`. A redirect leads to `https`, or from this machine to itself.

  Nothing here retries; see `Emily.Artifact.Download`.
  """

  alias Emily.Artifact.{CertificateError, Client, HttpError, LocalFile, RedirectError}

  @max_redirects 8
  # A packet's worth at a time would spend the download in message passing.
  @socket_buffer 262_144

  # Who sends less than this for as long as one may be idle has stalled, byte by byte.
  @least_bytes 1_024

  @typedoc "The headers of an answer, by lower-case name."
  @type headers :: %{String.t() => String.t()}

  @typedoc "What happens to a body: `start` sees the headers, `chunk` each piece."
  @type sink(acc) :: %{
          start: (headers(), acc -> {:ok, acc} | {:error, Exception.t()}),
          chunk: (binary(), acc -> {:ok, acc} | {:error, Exception.t()})
        }

  @doc """
  Gets an address and feeds the body of the answer to the sink.

  A failure comes with the accumulator as it was then: what arrived before it is not lost.
  """
  @spec get(Client.t(), String.t(), [{String.t(), String.t()}], acc, sink(acc)) ::
          {:ok, acc} | {:error, Exception.t(), acc}
        when acc: var
  def get(client, url, headers, acc, sink)

  # A file does not break off, so nobody asks for the rest of it.
  def get(%Client{}, "file:" <> _ = url, _headers, acc, sink), do: LocalFile.get(url, acc, sink)

  def get(%Client{} = client, url, headers, acc, sink),
    do: follow(client, [url], headers, acc, sink)

  # The chain holds the addresses so far, the latest first.
  defp follow(client, [url | _] = chain, headers, acc, sink) do
    case request(client, url, headers, acc, sink) do
      {:redirect, location} ->
        case next(chain, location) do
          {:ok, next} -> follow(client, [next | chain], headers, acc, sink)
          {:error, error} -> {:error, error, acc}
        end

      result ->
        result
    end
  end

  defp next(chain, nil), do: refuse(:no_location, chain)

  defp next([url | _] = chain, location) do
    next = url |> URI.merge(location) |> URI.to_string()
    full = [next | chain]

    cond do
      next in chain -> refuse(:loop, full)
      not secure?(next) and (secure?(url) or not loopback?(next)) -> refuse(:insecure, full)
      length(chain) > @max_redirects -> refuse(:too_many, full)
      true -> {:ok, next}
    end
  end

  defp secure?(url), do: URI.parse(url).scheme == "https"

  defp loopback?(url) do
    case URI.parse(url) do
      %URI{scheme: "http", host: host} when is_binary(host) -> Client.loopback?(host)
      _other -> false
    end
  end

  defp refuse(reason, chain) do
    {:error, %RedirectError{reason: reason, chain: chain |> Enum.reverse() |> Enum.map(&shown/1)}}
  end

  defp request(client, url, headers, acc, sink) do
    with :ok <- check_address(url),
         {:ok, options} <- Client.request_options(client, url),
         {:ok, id} <- start(client, url, headers, options) do
      receive_answer(client, url, id, acc, sink)
    else
      {:error, %{__exception__: true} = error} -> {:error, error, acc}
      {:error, reason} -> {:error, failure(url, reason), acc}
    end
  end

  defp check_address(url) do
    case URI.parse(url) do
      %URI{scheme: "https", host: host} when host not in [nil, ""] ->
        :ok

      %URI{scheme: "http", host: host} when host not in [nil, ""] ->
        if Client.loopback?(host), do: :ok, else: {:error, bad_address(url, :plain_http)}

      _other ->
        {:error, bad_address(url)}
    end
  end

  @doc "The error for an address that nothing is downloaded from."
  @spec bad_address(String.t(), :bad_address | :plain_http) :: HttpError.t()
  def bad_address(url, reason \\ :bad_address) do
    expected = "https://…, http:// with localhost, or file:///…"
    %HttpError{url: shown(url), reason: reason, expected: expected}
  end

  defp start(client, url, headers, options) do
    agent = {~c"user-agent", ~c"emily/#{Emily.Artifact.Targets.version()}"}
    # A connection each: one that is kept may be closed by the server just as it is used again.
    close = {~c"connection", ~c"close"}

    headers =
      for {name, value} <- headers, do: {String.to_charlist(name), String.to_charlist(value)}

    buffers = [buffer: @socket_buffer, recbuf: @socket_buffer]

    # Of a 503 that asks for a short delay, httpc repeats the request by itself; any other answer
    # but a redirect's comes here as it is.
    :httpc.request(
      :get,
      {String.to_charlist(url), [agent, close | headers]},
      options,
      [sync: false, stream: {:self, :once}, body_format: :binary, socket_opts: buffers],
      client.profile
    )
  end

  defp receive_answer(client, url, id, acc, sink) do
    receive do
      {:http, {^id, :stream_start, headers, handler}} ->
        case sink.start.(decoded(headers), acc) do
          {:ok, acc} ->
            :httpc.stream_next(handler)
            receive_body(client, url, {id, handler}, acc, sink, {client.clock.(), 0})

          {:error, error} ->
            cancel(client, id)
            {:error, error, acc}
        end

      {:http, {^id, {{_version, status, _phrase}, headers, _body}}}
      when status in [301, 302, 303, 307, 308] ->
        {:redirect, decoded(headers)["location"]}

      # An empty body is not streamed.
      {:http, {^id, {{_version, status, _phrase}, headers, body}}} when status in [200, 206] ->
        with {:ok, acc} <- sink.start.(decoded(headers), acc),
             {:ok, acc} <- sink.chunk.(body, acc) do
          {:ok, acc}
        else
          {:error, error} -> {:error, error, acc}
        end

      {:http, {^id, {{_version, status, _phrase}, headers, _body}}} ->
        error = %HttpError{url: shown(url), reason: {:status, status}}
        {:error, %{error | retry_after: retry_after(decoded(headers))}, acc}

      {:http, {^id, {:error, reason}}} ->
        {:error, failure(url, reason), acc}
    after
      client.idle_ms ->
        cancel(client, id)
        {:error, %HttpError{url: shown(url), reason: :timeout}, acc}
    end
  end

  # The pace: since when, and how many bytes have come since then.
  defp receive_body(client, url, {id, handler} = request, acc, sink, pace) do
    receive do
      {:http, {^id, :stream, bytes}} ->
        # Asked for before this piece is handled, the next one arrives meanwhile.
        :httpc.stream_next(handler)

        with {:ok, acc} <- sink.chunk.(bytes, acc),
             {:pace, pace} when pace != :stalled <-
               {:pace, pace(client, pace, byte_size(bytes))} do
          receive_body(client, url, request, acc, sink, pace)
        else
          {:error, error} ->
            cancel(client, id)
            {:error, error, acc}

          {:pace, :stalled} ->
            cancel(client, id)
            {:error, %HttpError{url: shown(url), reason: :stalled}, acc}
        end

      {:http, {^id, :stream_end, _headers}} ->
        {:ok, acc}

      {:http, {^id, {:error, reason}}} ->
        {:error, failure(url, reason), acc}
    after
      client.idle_ms ->
        cancel(client, id)
        {:error, %HttpError{url: shown(url), reason: :timeout}, acc}
    end
  end

  defp pace(client, {since, bytes}, more) do
    now = client.clock.()

    cond do
      now - since < client.idle_ms -> {since, bytes + more}
      bytes + more >= @least_bytes -> {now, 0}
      true -> :stalled
    end
  end

  # A cancelled request may have sent more already; nobody would read it.
  defp cancel(client, id) do
    :httpc.cancel_request(id, client.profile)
    flush(id)
  end

  defp flush(id) do
    receive do
      {:http, message} when elem(message, 0) == id -> flush(id)
    after
      0 -> :ok
    end
  end

  defp decoded(headers) do
    for {name, value} <- headers, into: %{} do
      {name |> List.to_string() |> String.downcase(), List.to_string(value)}
    end
  end

  defp retry_after(%{"retry-after" => text}) do
    case Integer.parse(text) do
      {seconds, ""} when seconds >= 0 -> seconds
      _date -> nil
    end
  end

  defp retry_after(_headers), do: nil

  # One reason for each address family that was tried; the last one is the one that counts.
  defp failure(url, {:failed_connect, details}) do
    reasons = for {_family, _options, reason} <- details, do: reason
    failure(url, List.last(reasons) || details)
  end

  defp failure(url, {:could_not_establish_ssl_tunnel, {_version, status, _phrase}}),
    do: failure(url, {:proxy, status})

  defp failure(url, {:tls_alert, {_kind, text}}), do: untrusted(url, text)
  defp failure(url, {:options, reason}), do: untrusted(url, inspect(reason))

  defp failure(url, closed) when closed in [:socket_closed_remotely, :server_closed],
    do: failure(url, :closed)

  defp failure(url, {:shutdown, reason}), do: failure(url, reason)
  defp failure(url, {:could_not_parse_as_http, _bytes}), do: failure(url, :unreadable)
  defp failure(url, reason), do: %HttpError{url: shown(url), reason: reason}

  defp untrusted(url, text) do
    %CertificateError{
      url: shown(url),
      actual: text |> to_string() |> String.replace(~r/\s+/, " ") |> String.trim()
    }
  end

  @doc """
  An address as it may be shown: without the name and password that it may carry.

      iex> Emily.Artifact.Http.shown("https://me:secret@example.com/a")
      "https://example.com/a"
  """
  @spec shown(String.t()) :: String.t()
  def shown(url), do: URI.to_string(%{URI.parse(url) | userinfo: nil, authority: nil})
end
