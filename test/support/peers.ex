defmodule Emily.Test.Peers do
  @moduledoc """
  Other nodes on this machine, connected over loopback, with the code of this VM.

  This VM does not become a node itself: it tells them what to do over their standard input. They need
  neither a network nor a name server, and stay as long as the process that started them.

  Where no nodes can be had, `problem/0` says why, as the reason of an ExUnit skip.
  """

  alias Emily.Test.LoopbackNames

  @type peer :: {pid(), node()}

  @doc "Why there can be no other nodes here, or nil."
  def problem do
    case boot([]) do
      {:ok, peer} ->
        stop(peer)
        nil

      {:error, reason} ->
        "a second node cannot be started: #{inspect(reason)}"
    end
  end

  @doc "Starts connected nodes that run Emily."
  @spec start(pos_integer()) :: [peer()]
  def start(count) do
    peers = for _ <- 1..count, do: boot!()
    nodes = for {_control, node} <- peers, do: node

    for {control, _node} = peer <- peers do
      true = Enum.all?(nodes, &:peer.call(control, :net_kernel, :connect_node, [&1]))
      {:ok, _} = call(peer, Application, :ensure_all_started, [:emily])
      # What goes wrong there comes back to whoever asked.
      :ok = call(peer, Logger, :configure, [[level: :none]])
    end

    peers
  end

  @doc "Ends a node."
  def stop({control, _node}), do: :peer.stop(control)

  @doc "Calls a function on a node."
  def call({control, _node}, module, function, arguments),
    do: :peer.call(control, module, function, arguments, 60_000)

  @doc "Evaluates code on a node, and returns its value."
  def eval(peer, code, binding \\ []) do
    {value, _binding} = call(peer, Code, :eval_string, [code, binding])
    value
  end

  defp boot! do
    case boot(code_paths()) do
      {:ok, peer} -> peer
      {:error, reason} -> raise "a node could not be started: #{inspect(reason)}"
    end
  end

  defp code_paths, do: for(path <- :code.get_path(), argument <- [~c"-pa", path], do: argument)

  defp boot(paths) do
    with {:ok, port} <- free_port(),
         {:ok, control, node} <- :peer.start(options(port, paths)) do
      {:ok, {control, node}}
    end
  catch
    # What `:peer` says where `erl` ends before it is a node.
    :exit, reason -> {:error, reason}
  end

  defp options(port, paths) do
    names = LoopbackNames |> :code.which() |> :filename.dirname()

    %{
      name: ~c"emily-#{port}",
      host: ~c"127.0.0.1",
      longnames: true,
      connection: :standard_io,
      # Until Elixir's own code is there, all that runs is what Erlang/OTP and this module have.
      args:
        [~c"-start_epmd", ~c"false", ~c"-epmd_module", Atom.to_charlist(LoopbackNames)] ++
          [~c"-kernel", ~c"inet_dist_use_interface", ~c"{127,0,0,1}", ~c"logger_level", ~c"none"] ++
          [~c"-setcookie", ~c"emily", ~c"-pa", names] ++ paths
    }
  end

  # Free now; the node that listens there in a moment is told by its name. That the port can be
  # connected to is what a machine needs to have of a network.
  defp free_port do
    with {:ok, listener} <- :gen_tcp.listen(0, ip: {127, 0, 0, 1}),
         {:ok, port} <- :inet.port(listener),
         {:ok, connection} <- :gen_tcp.connect({127, 0, 0, 1}, port, []),
         :ok <- :gen_tcp.close(connection),
         :ok <- :gen_tcp.close(listener),
         do: {:ok, port}
  end
end
