# Without Nx there is nothing to serve.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Serving.PoolTest do
    # Looks at the memory of the whole VM, and chooses its default backend.
    use ExUnit.Case, async: false

    @moduletag :nx
    @moduletag :native
    # Workers are killed.
    @moduletag :capture_log

    @workers 3
    @size 256

    # Of matrix products: many times the work of a short batch, on a CPU.
    @long 300
    @short 4

    # Messages and batches that are still in some process' heap, and less than any matrix.
    @slack 16_384

    setup do
      before = Nx.global_default_backend({Emily.Backend, device: :cpu})
      on_exit(fn -> Nx.global_default_backend(before) end)

      weights = Nx.iota({@size, @size}, type: :f32) |> Nx.sin() |> Nx.divide(16)
      %{weights: Emily.Backend.eval(weights)}
    end

    # A batch says how often the weights are to be multiplied with themselves, and its worker says to the
    # owner when that is in the stream's queue and when it is done. `streams` gives each worker its
    # stream.
    defp start(weights, name, streams) do
      owner = self()

      serving =
        Nx.Serving.new(
          fn options ->
            stream = streams.()
            identity = Nx.Defn.jit(&Function.identity/1, options)

            fn batch ->
              Emily.Stream.with_stream(stream, fn ->
                rounds = batch |> identity.() |> Nx.reshape({:auto}) |> then(&Nx.to_number(&1[0]))
                output = rounds |> multiplied(weights) |> Emily.Backend.async_eval()
                send(owner, {:begun, rounds, self()})
                Emily.Backend.eval(output)
                send(owner, {:done, rounds})
                output
              end)
            end
          end,
          max_concurrency: @workers
        )

      start_supervised!(
        {Nx.Serving,
         serving: serving, name: name, batch_size: 1, batch_timeout: 1, partitions: true}
      )
    end

    # The result, with the axis of the batch.
    defp multiplied(rounds, weights) do
      1..rounds
      |> Enum.reduce(weights, fn _round, product -> product |> Nx.dot(weights) |> Nx.tanh() end)
      |> Nx.new_axis(0)
    end

    defp ask(name, rounds),
      do: Nx.Serving.batched_run(name, Nx.Batch.stack([Nx.tensor(rounds)]))

    defp ask_async(name, rounds) do
      {pid, _reference} = spawn_monitor(fn -> exit({:answer, ask(name, rounds)}) end)
      pid
    end

    test "the workers give what one process gives, with one copy of the weights", context do
      %{weights: weights} = context
      start(weights, Equal, fn -> Emily.Stream.new(:cpu) end)
      before = active()

      for rounds <- Enum.to_list(1..5) ++ Enum.to_list(1..5) do
        Task.async(fn -> {rounds, Nx.to_binary(ask(Equal, rounds))} end)
      end
      |> Task.await_many(:infinity)
      |> Enum.each(fn {rounds, binary} ->
        assert binary == Nx.to_binary(multiplied(rounds, weights))
      end)

      settle(before)
    end

    test "a short batch does not wait for a long one that another worker computes", context do
      start(context.weights, Apart, fn -> Emily.Stream.new(:cpu) end)
      assert first_done(Apart) == @short
    end

    # Which shows that the streams are what sets the workers apart.
    test "on one stream for all workers it does wait", context do
      stream = Emily.Stream.new(:cpu)
      start(context.weights, Together, fn -> stream end)
      assert first_done(Together) == @long
    end

    defp first_done(name) do
      ask_async(name, @long)
      begun(@long)
      ask_async(name, @short)
      begun(@short)

      receive do
        {:done, rounds} -> rounds
      end
    end

    defp begun(rounds) do
      receive do
        {:begun, ^rounds, pid} -> pid
      end
    end

    test "when a worker is killed the others answer, and its memory comes back", context do
      %{weights: weights} = context
      start(weights, Killed, fn -> Emily.Stream.new(:cpu) end)
      expected = Nx.to_binary(multiplied(2, weights))
      assert Nx.to_binary(ask(Killed, 2)) == expected
      :erlang.garbage_collect()
      before = active()

      client = ask_async(Killed, @long)
      @long |> begun() |> Process.exit(:kill)
      assert {:killed, _call} = down(client)

      for _ <- 1..(2 * @workers), do: assert(Nx.to_binary(ask(Killed, 2)) == expected)
      refute_received {:done, @long}
      settle(before)
    end

    test "when the serving is killed its supervisor starts it with the same weights", context do
      %{weights: weights} = context
      start(weights, Restarted, fn -> Emily.Stream.new(:cpu) end)
      expected = Nx.to_binary(multiplied(2, weights))
      assert Nx.to_binary(ask(Restarted, 2)) == expected
      :erlang.garbage_collect()
      before = active()

      # The serving's own supervisor goes with it, and names are free when that is down.
      [supervisor, serving] =
        for name <- [Restarted.Supervisor, Restarted], do: Process.whereis(name)

      Process.monitor(supervisor)
      Process.exit(serving, :kill)
      down(supervisor)

      await("a new serving", fn -> Process.whereis(Restarted) not in [nil, serving] end)
      assert Nx.to_binary(ask(Restarted, 2)) == expected
      settle(before)
    end

    defp down(pid) do
      receive do
        {:DOWN, _reference, :process, ^pid, reason} -> reason
      end
    end

    defp active, do: Emily.Memory.stats().active

    # What other processes held is given back when they are gone, and what is computed when it is done.
    defp settle(before) do
      await("#{before} active bytes", fn ->
        :erlang.garbage_collect()
        active() <= before + @slack
      end)
    end

    defp await(what, fun, attempts \\ 1_000) do
      cond do
        fun.() -> :ok
        attempts == 0 -> flunk("expected #{what}, got: #{active()} active bytes")
        true -> receive(do: (:never -> :ok), after: (10 -> await(what, fun, attempts - 1)))
      end
    end
  end
end
