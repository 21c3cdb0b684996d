# Without Nx there is no telemetry.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.TelemetryTest do
    # A fallback's policy is the application's.
    use ExUnit.Case, async: false

    import Emily.Test.EventRecorder

    alias Emily.{Backend, Fallback, Telemetry}
    alias Emily.Telemetry.Event

    @moduletag :nx
    @moduletag :native

    doctest Telemetry

    defmodule Unknown do
      defstruct factor: 2
    end

    setup do
      Nx.default_backend(Backend)
      Application.put_env(:emily, :fallback, :silent)
      on_exit(fn -> Application.delete_env(:emily, :fallback) end)
      record(Telemetry.events())
    end

    defp lazy, do: Nx.iota({2, 3}) |> Nx.add(1)
    defp failing, do: Nx.take(Nx.iota({3}), Nx.add(Nx.tensor([7]), 0))
    defp device, do: Nx.tensor(1).data.device

    defp unknown(t) do
      Nx.block(%Unknown{}, [t, 3], Nx.template({2}, :s32), fn %Unknown{factor: factor}, t, 3 ->
        Nx.multiply(t, factor)
      end)
    end

    def fail(_event, _measurements, _metadata, test), do: if(self() == test, do: raise("no"))

    # Whatever makes Emily emit an event, each once.
    defp everything do
      Backend.eval(lazy())
      assert_raise Emily.Error, fn -> Backend.eval(failing()) end
      Nx.to_binary(lazy())
      assert_raise Emily.Error, fn -> Nx.to_binary(failing()) end
      Fallback.run({:twice, "it is a test"}, [Nx.tensor([1, 2])], fn [t] -> Nx.add(t, t) end)

      assert_raise RuntimeError, fn ->
        Fallback.run({:twice, "it is a test"}, [Nx.tensor([1, 2])], fn _ -> raise "no" end)
      end

      unknown(Nx.tensor([1, 2]))
      Telemetry.compiler_fallback(:hook, "it sends to a process", {MyModel, :step, 2})
      Telemetry.unfused("g++ cannot be run", :cpu)
      Telemetry.memory_stats()
      generate()
    end

    defp generate do
      Emily.Generation.generate(Emily.Test.SumModel.generation(), [1, 2], max_tokens: 2)
      failing = Emily.Test.SumModel.generation(forward: &failing_forward/3)
      assert_raise Emily.Error, fn -> Emily.Generation.generate(failing, [1]) end
      assert_raise Emily.Error, fn -> Emily.Generation.generate(failing, [1, 2]) end
    end

    defp failing_forward(params, tokens, cache) do
      {logits, cache} = Emily.Test.SumModel.forward(params, tokens, cache)
      nothing = Nx.take(Nx.iota({3}), Nx.add(cache.position, 7)) |> Nx.multiply(0)
      {Nx.add(logits, nothing), %{cache | position: Nx.add(cache.position, nothing)}}
    end

    test "every documented event is emitted, with the documented keys and no others" do
      everything()
      recorded = recorded()

      for %Event{name: name, measurements: measurements, metadata: metadata} <- Event.all() do
        assert {^name, measured, told} = List.keyfind(recorded, name, 0, :none), inspect(name)
        assert keys(measurements) == Enum.sort(Map.keys(measured)), inspect(name)
        assert keys(metadata) == Enum.sort(Map.keys(told)), inspect(name)
      end
    end

    defp keys(fields), do: fields |> Enum.map(&elem(&1, 0)) |> Enum.sort()

    test "the documentation has a row for each key of each event" do
      {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Telemetry)
      lines = String.split(text, "\n")

      for event <- Event.all() do
        assert Enum.any?(lines, &(&1 =~ ~r/^### .*#{Regex.escape(inspect(event.name))}/))

        for {place, fields} <- [measurements: event.measurements, metadata: event.metadata],
            {key, unit, meaning} <- fields do
          phase = inspect(List.last(event.name))
          row = "| #{place} | `:#{key}` | #{unit} | #{meaning} |"
          assert Enum.any?(lines, &(&1 =~ "`#{phase}`" and String.ends_with?(&1, row))), row
        end
      end
    end

    test "evaluation is a span of a process that waits" do
      Backend.eval(lazy())

      assert [{[:emily, :eval, :start], began, told}, {[:emily, :eval, :stop], ended, same}] =
               recorded()

      assert same == told
      assert %{type: {:s, 32}, shape: {2, 3}} = told
      assert told.device == device()
      assert ended.duration == ended.monotonic_time - began.monotonic_time
      assert ended.duration > 0
    end

    test "a native tensor's span knows no device" do
      Emily.eval(Emily.op(:iota, [], type: {:u, 8}, shape: [4]))
      assert [{_start, _, %{type: {:u, 8}, shape: {4}, device: nil}}, _stop] = recorded()
    end

    test "reading is a span that says how much was read" do
      Nx.to_binary(lazy())
      assert [_start, {[:emily, :to_binary, :stop], %{bytes: 24}, told}] = recorded()
      assert %{type: {:s, 32}, shape: {2, 3}} = told
      assert told.device == device()
    end

    test "what is at hand, and what nobody waits for, is no span" do
      t = Nx.tensor([1, 2])
      Nx.to_binary(t)
      Backend.eval(t)
      Backend.async_eval(lazy())
      assert recorded() == []
    end

    test "several tensors that are evaluated at once are one wait" do
      Backend.eval({lazy(), lazy(), lazy()})
      names = for {name, _, _} <- recorded(), do: name
      assert names == [[:emily, :eval, :start], [:emily, :eval, :stop]]
    end

    test "what fails is an exception, raised as without an observer" do
      for {kind, wait} <- [eval: &Backend.eval/1, to_binary: &Nx.to_binary/1] do
        error = assert_raise Emily.Error, fn -> wait.(failing()) end

        assert [{[:emily, ^kind, :start], _, told}, {[:emily, ^kind, :exception], _, failed}] =
                 recorded()

        assert %{kind: :error, reason: ^error, stacktrace: [_ | _]} = failed
        assert failed.telemetry_span_context == told.telemetry_span_context
      end

      refute_received _
    end

    test "a tensor that another process deallocates while one waits leaves nothing behind" do
      t = lazy()
      [deallocated, reference] = [t.data.ref, make_ref()]
      :pending = Emily.Native.eval(deallocated, reference)
      Emily.Native.deallocate(deallocated)

      wait = fn ->
        receive do
          {^reference, {:ok, :ok}} -> :ok
        end
      end

      assert Telemetry.wait(:eval, deallocated, :cpu, wait) == :ok
      assert [{_, _, %{type: nil, shape: nil}}, {[:emily, :eval, :stop], _, _}] = recorded()
      refute_received _
    end

    test "a handler that fails is detached, and the process gets its numbers" do
      id = make_ref()
      event = [:emily, :to_binary, :start]
      :ok = :telemetry.attach(id, event, &__MODULE__.fail/4, self())

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          assert Nx.to_flat_list(lazy()) == [1, 2, 3, 4, 5, 6]
        end)

      assert log =~ "has failed and has been detached"
      assert :telemetry.detach(id) == {:error, :not_found}
    end

    test "a block without a native operation is told of, and still computed here" do
      result = unknown(Nx.tensor([1, 2]))
      assert %Nx.Tensor{data: %Backend{}} = result

      assert [{[:emily, :block, :fallback], %{count: 1}, told}] = recorded()

      assert told == %{
               block: Unknown,
               struct: %Unknown{factor: 2},
               inputs: [{{:s, 32}, {2}}],
               device: device()
             }

      assert Nx.to_flat_list(result) == [2, 4]
    end

    test "a block that has one is not told of" do
      Nx.logical_not(Nx.tensor([1, 0]))
      assert recorded() == []
    end

    test "a compiler tells what it leaves to the evaluator" do
      Telemetry.compiler_fallback(:hook, "it sends to a process", {MyModel, :step, 2})
      Telemetry.compiler_fallback(:token, "it is one")

      assert [
               {[:emily, :compiler, :fallback], %{count: 1}, told},
               {[:emily, :compiler, :fallback], %{count: 1}, unnamed}
             ] = recorded()

      assert told ==
               %{
                 construct: :hook,
                 reason: "it sends to a process",
                 function: {MyModel, :step, 2}
               }

      assert unnamed == %{construct: :token, reason: "it is one", function: nil}
    end

    test "a compiler tells what it cannot fuse" do
      Telemetry.unfused("g++ cannot be run", :cpu)
      assert [{[:emily, :compiler, :unfused], %{count: 1}, told}] = recorded()
      assert told == %{reason: "g++ cannot be run", device: :cpu}
    end

    test "memory is told of as Emily.Memory tells it" do
      Telemetry.memory_stats()
      assert [{[:emily, :memory, :stats], stats, metadata}] = recorded()
      assert metadata == %{}
      assert Map.keys(stats) == Map.keys(Emily.Memory.stats())
      assert stats.active <= stats.peak
    end
  end
end
