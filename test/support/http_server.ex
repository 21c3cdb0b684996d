defmodule Emily.Test.HttpServer do
  @moduledoc """
  An HTTP or HTTPS server on loopback that misbehaves when told to.

  It serves files from a map by name, with range requests, and remembers every request. A script,
  by name, says what the first, second, … request for a file gets instead; after its last line the
  file is served properly.

    * `:ok` - the file
    * `{:status, code}` and `{:status, code, headers}` - an answer without the file
    * `{:redirect, location}` - status 302
    * `{:cut, count}` - the promise of the whole, `count` bytes of it, and a clean close
    * `{:reset, count}` - the same, with the connection reset
    * `{:reset, count, hold}` - the same, once the function returns that is called after the bytes
    * `{:short, count}` - an answer that promises and delivers only `count` bytes
    * `{:whole}` - the whole file, even if a range was asked for
    * `{:shifted, count}` - a range that begins `count` bytes from where it was asked for
    * `{:silent}` - nothing, for as long as the client waits
    * `{:raw, bytes, ending}` - these bytes as they are, and then `:close`, `:reset` or `:silence`
    * `{:trickle}` - the promise of the whole, and byte after byte of it
    * `{:endless}` - bytes without a promise of how many, until the client goes away
    * `{:call, function}` - what the function answers, when it is called with the request
  """

  use GenServer

  @enforce_keys [:pid, :url, :port]
  defstruct @enforce_keys

  @doc "Starts a server; `:tls` holds the `:ssl` options of an HTTPS one."
  def start(files, scripts \\ %{}, options \\ []) do
    {:ok, pid} = GenServer.start_link(__MODULE__, {files, scripts, options[:tls]})
    port = GenServer.call(pid, :port)
    scheme = if options[:tls], do: "https", else: "http"
    %__MODULE__{pid: pid, port: port, url: "#{scheme}://localhost:#{port}/"}
  end

  def stop(server), do: GenServer.stop(server.pid)

  @doc "Exchanges what is served; the memory of requests stays."
  def serve(server, files, scripts \\ %{}),
    do: GenServer.call(server.pid, {:serve, files, scripts})

  @doc "The requests so far, oldest first: `{name, headers}`."
  def requests(server), do: GenServer.call(server.pid, :requests)

  @doc "How often a name was asked for."
  def count(server, name),
    do: Enum.count(requests(server), fn {asked, _headers} -> asked == name end)

  @impl true
  def init({files, scripts, tls}) do
    options = [
      :binary,
      ip: {127, 0, 0, 1},
      active: false,
      packet: :raw,
      reuseaddr: true,
      backlog: 64
    ]

    {:ok, socket} =
      if tls, do: :ssl.listen(0, options ++ tls), else: :gen_tcp.listen(0, options)

    {:ok, port} =
      if tls,
        do: with({:ok, {_ip, port}} <- :ssl.sockname(socket), do: {:ok, port}),
        else: :inet.port(socket)

    transport = if tls, do: :ssl, else: :gen_tcp
    server = self()
    spawn_link(fn -> accept(transport, socket, server) end)
    {:ok, %{files: files, scripts: scripts, requests: [], port: port}}
  end

  @impl true
  def handle_call(:port, _from, state), do: {:reply, state.port, state}
  def handle_call(:requests, _from, state), do: {:reply, Enum.reverse(state.requests), state}

  def handle_call({:file, name}, _from, state),
    do: {:reply, Map.fetch(state.files, name), state}

  def handle_call({:serve, files, scripts}, _from, state) do
    {:reply, :ok, %{state | files: files, scripts: scripts}}
  end

  def handle_call({:request, name, headers}, _from, state) do
    {line, scripts} =
      case state.scripts do
        %{^name => [line | rest]} -> {line, %{state.scripts | name => rest}}
        %{^name => line} when not is_list(line) -> {line, state.scripts}
        _unscripted -> {:ok, state.scripts}
      end

    state = %{state | scripts: scripts, requests: [{name, headers} | state.requests]}
    {:reply, {line, Map.fetch(state.files, name)}, state}
  end

  defp accept(:gen_tcp, socket, server) do
    with {:ok, client} <- :gen_tcp.accept(socket) do
      hand_over(:gen_tcp, client, server)
      accept(:gen_tcp, socket, server)
    end
  end

  defp accept(:ssl, socket, server) do
    with {:ok, client} <- :ssl.transport_accept(socket) do
      spawn(fn ->
        with {:ok, client} <- :ssl.handshake(client, 5_000),
             do: converse(:ssl, client, server, "")
      end)

      accept(:ssl, socket, server)
    end
  end

  defp hand_over(transport, client, server) do
    worker =
      spawn(fn ->
        receive do
          :yours -> converse(transport, client, server, "")
        end
      end)

    :ok = transport.controlling_process(client, worker)
    send(worker, :yours)
  end

  # One connection may carry several requests, if the client keeps it.
  defp converse(transport, client, server, buffer) do
    case String.split(buffer, "\r\n\r\n", parts: 2) do
      [head, rest] ->
        case respond(transport, client, server, head) do
          :keep -> converse(transport, client, server, rest)
          :close -> transport.close(client)
        end

      [_incomplete] ->
        case transport.recv(client, 0) do
          {:ok, bytes} -> converse(transport, client, server, buffer <> bytes)
          {:error, _closed} -> :ok
        end
    end
  end

  defp respond(transport, client, server, head) do
    [request | lines] = String.split(head, "\r\n")
    [method, request] = String.split(request, " ", parts: 2)

    name =
      request
      |> String.split(" ")
      |> hd()
      |> URI.parse()
      |> Map.fetch!(:path)
      |> String.trim_leading("/")

    headers =
      for line <- lines, [name, value] = String.split(line, ":", parts: 2), into: %{} do
        {String.downcase(name), String.trim(value)}
      end

    send_bytes = &transport.send(client, &1)

    if method == "HEAD",
      do: describe(GenServer.call(server, {:file, name}), send_bytes),
      else:
        answer(
          GenServer.call(server, {:request, name, headers}),
          name,
          headers,
          send_bytes,
          transport,
          client
        )
  end

  # Whether a file is there, which is no request for it.
  defp describe(found, send_bytes) do
    send_bytes.(head(if(found == :error, do: 404, else: 200), [{"content-length", 0}]))
    :keep
  end

  defp answer(answer, name, headers, send_bytes, transport, client) do
    case answer do
      {{:call, function}, found} ->
        play(function.({name, headers}), found, headers, send_bytes, transport, client)

      {line, found} ->
        play(line, found, headers, send_bytes, transport, client)
    end
  end

  defp play(:ok, {:ok, bytes}, headers, send_bytes, _transport, _client) do
    case headers["range"] && Regex.run(~r/bytes=(\d+)-/, headers["range"]) do
      [_all, first] -> part(bytes, String.to_integer(first), String.to_integer(first), send_bytes)
      nil -> whole(bytes, send_bytes)
    end
  end

  defp play(:ok, :error, headers, send_bytes, transport, client) do
    play({:status, 404}, :error, headers, send_bytes, transport, client)
  end

  defp play({:status, code}, found, headers, send_bytes, transport, client) do
    play({:status, code, []}, found, headers, send_bytes, transport, client)
  end

  defp play({:status, code, extra}, _found, _headers, send_bytes, _transport, _client) do
    send_bytes.(head(code, [{"content-length", 4} | extra]) <> "told")
    :keep
  end

  defp play({:redirect, location}, found, headers, send_bytes, transport, client) do
    play({:status, 302, [{"location", location}]}, found, headers, send_bytes, transport, client)
  end

  defp play({:cut, count}, {:ok, bytes}, headers, send_bytes, _transport, _client) do
    begin(bytes, count, headers, send_bytes)
    :close
  end

  defp play({:reset, count}, {:ok, bytes}, headers, send_bytes, transport, client) do
    begin(bytes, count, headers, send_bytes)
    if transport == :gen_tcp, do: :inet.setopts(client, linger: {true, 0})
    :close
  end

  defp play({:reset, count, hold}, found, headers, send_bytes, transport, client) do
    told = fn bytes ->
      send_bytes.(bytes)
      hold.()
    end

    play({:reset, count}, found, headers, told, transport, client)
  end

  defp play({:short, count}, {:ok, bytes}, _headers, send_bytes, _transport, _client) do
    whole(binary_part(bytes, 0, count), send_bytes)
  end

  defp play({:whole}, {:ok, bytes}, _headers, send_bytes, _transport, _client),
    do: whole(bytes, send_bytes)

  defp play({:shifted, count}, {:ok, bytes}, headers, send_bytes, _transport, _client) do
    first = first_byte(headers)
    part(bytes, first + count, first + count, send_bytes)
  end

  defp play({:silent}, _found, _headers, _send_bytes, transport, client) do
    transport.recv(client, 0)
    :close
  end

  defp play({:endless}, _found, _headers, send_bytes, _transport, _client) do
    send_bytes.(head(200, [{"connection", "close"}]))
    pour(send_bytes, :binary.copy(<<0>>, 65_536))
    :close
  end

  defp play({:raw, bytes, ending}, _found, _headers, send_bytes, transport, client) do
    send_bytes.(bytes)
    if ending == :reset and transport == :gen_tcp, do: :inet.setopts(client, linger: {true, 0})
    # The client has no more to say, so this ends with it.
    if ending == :silence, do: transport.recv(client, 0)
    :close
  end

  defp play({:trickle}, {:ok, bytes}, _headers, send_bytes, transport, client) do
    if transport == :gen_tcp, do: :inet.setopts(client, nodelay: true)
    send_bytes.(head(200, [{"content-length", byte_size(bytes)}]))
    Enum.find(:binary.bin_to_list(bytes), &(send_bytes.(<<&1>>) != :ok))
    :close
  end

  defp pour(send_bytes, bytes), do: if(send_bytes.(bytes) == :ok, do: pour(send_bytes, bytes))

  defp whole(bytes, send_bytes) do
    send_bytes.([head(200, [{"content-length", byte_size(bytes)}, {"etag", tag(bytes)}]), bytes])
    :keep
  end

  defp part(bytes, first, claimed, send_bytes) do
    size = byte_size(bytes)
    rest = binary_part(bytes, first, size - first)

    headers = [
      {"content-length", byte_size(rest)},
      {"content-range", "bytes #{claimed}-#{size - 1}/#{size}"},
      {"etag", tag(bytes)}
    ]

    send_bytes.([head(206, headers), rest])
    :keep
  end

  # Everything is promised from where the client asked, and `count` bytes of it are sent.
  defp begin(bytes, count, headers, send_bytes) do
    first = first_byte(headers)
    size = byte_size(bytes)
    ranged = if first > 0, do: [{"content-range", "bytes #{first}-#{size - 1}/#{size}"}], else: []
    answer = [{"content-length", size - first}, {"etag", tag(bytes)}] ++ ranged

    send_bytes.([
      head(if(first > 0, do: 206, else: 200), answer),
      binary_part(bytes, first, count)
    ])
  end

  defp first_byte(headers) do
    case Regex.run(~r/bytes=(\d+)-/, headers["range"] || "") do
      [_all, first] -> String.to_integer(first)
      nil -> 0
    end
  end

  defp tag(bytes), do: "\"#{:erlang.phash2(bytes)}\""

  defp head(code, headers) do
    lines = for {name, value} <- headers, do: "#{name}: #{value}\r\n"
    "HTTP/1.1 #{code} Told\r\n#{lines}\r\n"
  end
end
