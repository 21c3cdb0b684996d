defmodule Emily.Test.TunnelProxy do
  @moduledoc """
  A proxy on loopback that connects clients to any server by CONNECT, and remembers to which.
  """

  defstruct [:agent, :port]

  @doc "Starts a proxy; with `:password`, for those alone who give this name and password."
  def start(options \\ []) do
    wanted = options[:password] && "Basic " <> Base.encode64(options[:password])
    {:ok, agent} = Agent.start_link(fn -> [] end)

    {:ok, socket} =
      :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false, reuseaddr: true])

    {:ok, port} = :inet.port(socket)
    spawn_link(fn -> accept(socket, {agent, wanted}) end)
    %__MODULE__{agent: agent, port: port}
  end

  @doc "The tunnels so far, oldest first: `{target, headers}`."
  def requests(proxy), do: Agent.get(proxy.agent, &Enum.reverse/1)

  defp accept(socket, agent) do
    with {:ok, client} <- :gen_tcp.accept(socket) do
      worker =
        spawn(fn ->
          receive do
            :yours -> tunnel(client, agent, "")
          end
        end)

      :ok = :gen_tcp.controlling_process(client, worker)
      send(worker, :yours)
      accept(socket, agent)
    end
  end

  defp tunnel(client, agent, buffer) do
    {:ok, bytes} = :gen_tcp.recv(client, 0)

    case String.split(buffer <> bytes, "\r\n\r\n") do
      [head, ""] -> connect(client, agent, head)
      [incomplete] -> tunnel(client, agent, incomplete)
    end
  end

  defp connect(client, agent, head) do
    ["CONNECT " <> request | lines] = String.split(head, "\r\n")
    [target, "HTTP/1.1"] = String.split(request, " ")

    headers =
      for line <- lines, [name, value] = String.split(line, ":", parts: 2), into: %{} do
        {String.downcase(name), String.trim(value)}
      end

    {agent, wanted} = agent
    Agent.update(agent, &[{target, headers} | &1])

    if wanted in [nil, headers["proxy-authorization"]],
      do: open(client, target),
      else: :gen_tcp.send(client, "HTTP/1.1 407 Who is it\r\ncontent-length: 0\r\n\r\n")
  end

  defp open(client, target) do
    [_host, port] = String.split(target, ":")
    options = [:binary, active: true]
    {:ok, server} = :gen_tcp.connect({127, 0, 0, 1}, String.to_integer(port), options)
    :ok = :gen_tcp.send(client, "HTTP/1.1 200 Connected\r\n\r\n")
    :ok = :inet.setopts(client, active: true)
    relay(client, server)
  end

  defp relay(client, server) do
    receive do
      {:tcp, ^client, bytes} -> :gen_tcp.send(server, bytes) && relay(client, server)
      {:tcp, ^server, bytes} -> :gen_tcp.send(client, bytes) && relay(client, server)
      {:tcp_closed, _either} -> Enum.each([client, server], &:gen_tcp.close/1)
    end
  end
end
