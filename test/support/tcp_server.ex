defmodule Emily.Test.TcpServer do
  @moduledoc """
  A server on loopback that does one thing to every connection, before any protocol has begun.

    * `:close`, `:reset` - ends it at once
    * `{:reads, ending}` - waits for the client's first bytes, and then ends it
    * `{:answers, bytes}` - waits for them, and answers so
    * `:silence` - says nothing for as long as the client waits
  """

  @doc "Starts a server, and returns its port."
  def start(what) do
    {:ok, socket} =
      :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false, backlog: 64])

    {:ok, port} = :inet.port(socket)
    spawn_link(fn -> accept(socket, what) end)
    port
  end

  @doc "A port that nobody listens on."
  def closed_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  defp accept(socket, what) do
    with {:ok, client} <- :gen_tcp.accept(socket) do
      treat(client, what)
      accept(socket, what)
    end
  end

  defp treat(client, :close), do: :gen_tcp.close(client)

  defp treat(client, :reset) do
    :inet.setopts(client, linger: {true, 0})
    :gen_tcp.close(client)
  end

  defp treat(client, {:reads, ending}) do
    :gen_tcp.recv(client, 0)
    treat(client, ending)
  end

  defp treat(client, {:answers, bytes}) do
    :gen_tcp.recv(client, 0)
    :gen_tcp.send(client, bytes)
    treat(client, :close)
  end

  # Both reads are over when the client has gone.
  defp treat(client, :silence) do
    with {:ok, _hello} <- :gen_tcp.recv(client, 0), do: :gen_tcp.recv(client, 0)
    treat(client, :close)
  end
end
