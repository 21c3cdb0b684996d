# Without Nx there is nothing to serve.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.ServingTest do
    # Chooses the whole VM's default backend.
    use ExUnit.Case, async: false

    alias Emily.Compiler

    @moduletag :nx
    @moduletag :native

    setup do
      before = Nx.global_default_backend(Emily.Backend)
      on_exit(fn -> Nx.global_default_backend(before) end)
    end

    test "each partition computes on a stream of its own, with one compiled function" do
      owner = self()
      weights = Nx.iota({4, 2}, type: :f32)

      serving =
        Nx.Serving.new(
          fn options ->
            send(owner, {:stream, options[:stream]})
            predict = Nx.Defn.jit(&Nx.tanh(Nx.dot(&1, &2)), options)
            fn batch -> Emily.Backend.eval(predict.(batch, weights)) end
          end,
          compiler: Compiler,
          native_fallback: :raise,
          max_concurrency: 3
        )

      start_supervised!(
        {Nx.Serving,
         serving: serving, name: __MODULE__, batch_size: 2, batch_timeout: 1, partitions: true}
      )

      streams = for _ <- 1..3, do: receive(do: ({:stream, %Emily.Stream{} = stream} -> stream))
      assert streams == Enum.uniq(streams)

      rows = for row <- 1..12, do: Nx.divide(Nx.iota({1, 4}), row)

      rows
      |> Task.async_stream(fn row ->
        {row, Nx.Serving.batched_run(__MODULE__, Nx.Batch.concatenate([row]))}
      end)
      |> Enum.each(fn {:ok, {row, result}} ->
        expected = Nx.tanh(Nx.dot(row, weights))
        assert Nx.shape(result) == {1, 2}
        assert Nx.to_number(Nx.all_close(result, expected, atol: 1.0e-6)) == 1
      end)
    end
  end
end
