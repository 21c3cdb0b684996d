# Without Nx there is nothing to serve.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Serving.DistributedTest do
    use ExUnit.Case, async: true

    alias Emily.Test.Peers

    @moduletag :nx
    @moduletag :native

    # ExUnit counts what is skipped without its reason.
    if problem = Peers.problem() do
      IO.puts("Skipped: tests of several nodes: #{problem}.")
      @moduletag skip: problem
    end

    # The third is the one that goes down.
    setup_all do
      [server, client, mortal] = Peers.start(3)
      %{server: server, client: client, mortal: mortal}
    end

    # What a node runs to serve: one copy of the weights, two streams, answers with the node's name.
    @server """
    Nx.global_default_backend(Emily.Backend)
    weights = Nx.tensor([[1.0, 2.0], [3.0, 4.0]])

    serving =
      Nx.Serving.new(
        fn options ->
          stream = Emily.Stream.new()
          predict = Nx.Defn.jit(&Nx.dot/2, options)
          fn batch -> Emily.Stream.with_stream(stream, fn -> predict.(batch, weights) end) end
        end,
        max_concurrency: 2
      )
      |> Nx.Serving.client_preprocessing(&{Nx.Batch.concatenate([&1]), :no_info})
      |> Nx.Serving.client_postprocessing(fn {output, _metadata}, _info -> {output, node()} end)
      |> Nx.Serving.distributed_postprocessing(fn {output, node} -> {finish.(output), node} end)

    {:ok, pid} =
      Nx.Serving.start_link(
        serving: serving, name: name, batch_size: 4, batch_timeout: 1, partitions: true
      )

    # The process that evaluates this ends with it.
    Process.unlink(pid)
    """

    # The nodes that the client knows to serve are these, once so many have said so.
    @known """
    {_reference, servers} = :pg.monitor(Nx.Serving.PG, name)

    await = fn await, servers ->
      if length(servers) < count do
        receive do
          {_reference, :join, ^name, joined} -> await.(await, servers ++ joined)
        end
      end
    end

    await.(await, servers)
    """

    # A client that looks at what it got without its elements, in every way there is.
    @careless """
    Nx.global_default_backend(Emily.Backend)
    {tensor, _node} = Nx.Serving.batched_run(name, Nx.tensor([[1.0, 1.0]]), &Nx.backend_copy/1)

    uses = [
      &Nx.to_binary/1,
      &Nx.add(&1, 1),
      &Nx.backend_copy/1,
      &Nx.backend_transfer/1,
      &Nx.serialize/1
    ]

    texts =
      for use <- uses do
        try do
          use.(tensor)
          "no error"
        rescue
          error in ArgumentError -> Exception.message(error)
        end
      end

    [inspect(tensor) | texts]
    """

    # Two partitions make a node's serving a member twice.
    defp serve(peers, name, finish \\ &Nx.backend_copy/1) do
      for peer <- peers, do: Peers.eval(peer, @server, name: name, finish: finish)
      for peer <- peers, do: await(peer, name, 2 * length(peers))
      :ok
    end

    defp await(peer, name, count), do: Peers.eval(peer, @known, name: name, count: count)

    defp ask(peer, name, prepare \\ &Nx.backend_copy/1) do
      Peers.eval(
        peer,
        """
        Nx.global_default_backend(Emily.Backend)
        Nx.Serving.batched_run({:distributed, name}, Nx.tensor([[1.0, 1.0]]), prepare)
        """,
        name: name,
        prepare: prepare
      )
    end

    test "a node without the serving gets answers from one that has it", %{
      server: server,
      client: client
    } do
      serve([server], Remote)
      await(client, Remote, 2)

      {output, node} = ask(client, Remote)
      assert node == elem(server, 1)
      assert %Nx.Tensor{data: %Nx.BinaryBackend{}} = output
      assert Nx.to_list(output) == [[4.0, 6.0]]
    end

    test "a tensor that is sent without its elements is refused in words, on either side",
         context do
      %{server: server, client: client} = context
      identity = &Function.identity/1
      serve([server], Copied)
      serve([server], Bare, identity)
      for name <- [Copied, Bare], do: await(client, name, 2)
      message = ~r/expected a tensor of this node \(to send one to another node/

      # What the client sends is none of the server's; the server says so, and goes on.
      assert {:error, text} = caught(fn -> ask(client, Copied, identity) end)
      assert text =~ message
      assert {_output, _node} = ask(client, Copied)

      # And what the server sends is none of the client's.
      [shown | texts] = Peers.eval(client, @careless, name: Bare)
      assert shown =~ "Not here: of the node #{elem(server, 1)}"
      assert length(texts) == 5
      for text <- texts, do: assert(text =~ message)
    end

    # Counts down to nothing, and says each number on the way.
    @streaming """
    defmodule Countdown do
      import Nx.Defn

      defn run(numbers) do
        {numbers, _step} =
          while {numbers, step = 2}, step > 0 do
            {io_call(numbers - 1, :counted), step - 1}
          end

        numbers
      end
    end

    Nx.global_default_backend(Emily.Backend)

    serving =
      Nx.Serving.new(fn options ->
        count = Nx.Defn.jit(&Countdown.run/1, options)
        fn batch -> batch |> count.() |> Emily.Backend.eval() end
      end)
      |> Nx.Serving.streaming(hooks: [:counted])
      |> Nx.Serving.client_preprocessing(&{Nx.Batch.stack([&1]), :no_info})
      |> Nx.Serving.distributed_postprocessing(fn events ->
        Stream.map(events, fn
          {:counted, numbers} -> {:counted, Nx.backend_copy(numbers)}
          {:batch, numbers, metadata} -> {:batch, Nx.backend_copy(numbers), metadata}
        end)
      end)

    {:ok, pid} = Nx.Serving.start_link(serving: serving, name: name, batch_timeout: 1)
    Process.unlink(pid)
    """

    test "what a node streams arrives as it is computed", %{server: server, client: client} do
      Peers.eval(server, @streaming, name: Streaming)
      await(client, Streaming, 1)

      events =
        Peers.eval(client, """
        Nx.global_default_backend(Emily.Backend)

        Streaming
        |> Nx.Serving.batched_run(Nx.tensor([5, 7]), &Nx.backend_copy/1)
        |> Enum.to_list()
        """)

      assert [{:counted, [[4, 6]]}, {:counted, [[3, 5]]}, {:batch, [[3, 5]]}] =
               for(event <- events, do: {elem(event, 0), Nx.to_list(elem(event, 1))})
    end

    test "when a node goes down the others answer", %{mortal: first, client: second} do
      peers = [first, second]
      serve(peers, Both)

      nodes = for _ <- 1..40, do: elem(ask(second, Both), 1)
      assert Enum.sort(Enum.uniq(nodes)) == Enum.sort(for {_control, node} <- peers, do: node)

      Peers.stop(first)

      Peers.eval(
        second,
        """
        {reference, servers} = :pg.monitor(Nx.Serving.PG, Both)

        if Enum.any?(servers, &(node(&1) != node())) do
          receive do
            {^reference, :leave, Both, _left} -> :ok
          end
        end
        """
      )

      rest = for _ <- 1..10, do: elem(ask(second, Both), 1)
      assert Enum.uniq(rest) == [elem(second, 1)]
    end

    defp caught(fun) do
      fun.()
    catch
      _kind, reason -> {:error, inspect(reason)}
    end
  end
end
