if Code.ensure_loaded?(Nx) do
  defmodule Emily.GenerationTest do
    use ExUnit.Case, async: true

    import Emily.Test.EventRecorder

    alias Emily.Generation
    alias Emily.Generation.{Result, Session}
    alias Emily.Test.SumModel

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    @prompt [3, 1, 4, 1, 5, 9, 2]

    test "the documentation's model is one" do
      {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Generation)
      assert Emily.Test.Guide.run(text, "Emily.Generation") == 4
    end

    test "tokens follow as the model says, beyond the cache's first room" do
      generation = SumModel.generation()
      assert generation.vocabulary == SumModel.vocabulary()

      for length <- [1, 2, 5, 7], prompt = Enum.take(@prompt, length) do
        assert %Result{reason: :max_tokens} =
                 result = Generation.generate(generation, prompt, max_tokens: 40)

        assert result.tokens == SumModel.continued(prompt, 40)
        assert result.generated_tokens == 40
        assert result.prompt_tokens == length
      end
    end

    test "any compiler gives the same" do
      for compiler <- [Nx.Defn.Evaluator, Emily.Compiler],
          backend <- [Nx.BinaryBackend, Emily.Backend] do
        Nx.default_backend(backend)
        generation = SumModel.generation(defn_options: [compiler: compiler])

        assert Generation.generate(generation, @prompt, max_tokens: 12).tokens ==
                 SumModel.continued(@prompt, 12)
      end
    end

    test "a stream gives the tokens one by one, and only when it is asked" do
      stream = Generation.stream(SumModel.generation(), @prompt, max_tokens: 9)
      assert Enum.to_list(stream) == SumModel.continued(@prompt, 9)
      assert Enum.take(stream, 3) == SumModel.continued(@prompt, 3)
    end

    test "rows of any length are continued as each alone would be" do
      rows = [[5], @prompt, [1, 2, 3]]
      result = Generation.generate(SumModel.generation(), rows, max_tokens: 20)
      assert result.tokens == Enum.map(rows, &SumModel.continued(&1, 20))
      assert result.reason == [:max_tokens, :max_tokens, :max_tokens]
    end

    test "a session's common beginning is not read again" do
      generation = SumModel.generation()
      session = Generation.prefill(generation, @prompt)
      assert %Session{tokens: [[3, 1, 4, 1, 5, 9]]} = session

      for prompt <- [@prompt, [3, 1, 4, 8, 8], @prompt ++ [1, 1], [9, 9]] do
        result = Generation.generate(generation, prompt, session: session, max_tokens: 10)
        assert result.tokens == SumModel.continued(prompt, 10)
      end
    end

    test "prompts and texts are spans that say how many tokens there were" do
      record(Emily.Telemetry.events())
      generation = SumModel.generation()
      session = Generation.prefill(generation, [3, 1, 4])
      Enum.take(Generation.stream(generation, @prompt, session: session), 4)
      Generation.generate(generation, [[1], [2, 3]], max_tokens: 5)

      spans =
        for {[:emily, kind, :stop], told, %{rows: rows}} <- recorded(), do: {kind, rows, told}

      assert [
               {:prefill, 1, %{tokens: 2, reused: 0}},
               {:prefill, 1, %{tokens: 4, reused: 2}},
               {:decode, 1, %{tokens: 4, steps: 5} = told},
               {:prefill, 2, %{tokens: 1, reused: 0}},
               {:decode, 2, %{tokens: 10, steps: 5}}
             ] = spans

      seconds = told.duration / System.convert_time_unit(1, :second, :native)
      assert_in_delta told.tokens_per_second * seconds, 4, 0.4
    end

    # What is noted and not computed yet.
    defp noted(container) do
      refs = for tensor <- Nx.Defn.Composite.flatten_list([container]), do: tensor.data.ref
      refs |> Emily.Native.graph_operations() |> Enum.sum_by(&elem(&1, 1))
    end

    test "all of a prompt is read when its session is there" do
      session = Generation.prefill(SumModel.generation(), List.duplicate(3, 40))
      assert noted(session.cache) == 0
    end

    test "what no token depends on does not pile up" do
      forward = fn params, tokens, %{held: held, idle: idle} ->
        {logits, held} = SumModel.forward(params, tokens, held)
        {logits, %{held: held, idle: Nx.add(idle, 1)}}
      end

      generation =
        SumModel.generation(
          forward: forward,
          cache: &%{held: SumModel.cache(&1, 512), idle: Nx.tensor(0, type: :s32)},
          capacity: 512,
          trim: fn cache, count -> %{cache | held: SumModel.trim(cache.held, count)} end,
          grow: nil,
          pad: nil
        )

      wrong = fn params, tokens, cache ->
        {logits, cache} = SumModel.forward(params, tokens, cache)
        {Nx.negate(logits), cache}
      end

      draft = SumModel.generation(forward: wrong, room: 512)

      # Each of 400 steps or rounds adds one.
      for options <- [[], [draft: draft, draft_tokens: 1]] do
        result = Generation.generate(generation, [1], [max_tokens: 400] ++ options)
        assert result.tokens == SumModel.continued([1], 400)
        idle = result.session.cache.idle
        assert noted(idle) < 200
        assert Nx.to_number(idle) == 400
      end
    end

    # The model, with a count of how often it ran.
    defp counting(options \\ []) do
      counter = :counters.new(1, [])

      forward = fn params, tokens, cache ->
        {logits, cache} = SumModel.forward(params, tokens, cache)
        {Nx.Defn.Kernel.io_call(logits, fn _logits -> :counters.add(counter, 1, 1) end), cache}
      end

      {SumModel.generation([forward: forward] ++ options), fn -> :counters.get(counter, 1) end}
    end

    test "one step is under way ahead of what is handed out, and no more" do
      {generation, ran} = counting()
      stream = Generation.stream(generation, [1], max_tokens: 20)
      assert ran.() == 0

      stream
      |> Stream.take(10)
      |> Stream.with_index(1)
      |> Enum.each(fn {_token, index} -> assert ran.() == index + 1 end)

      # Halted: nothing runs any more.
      assert ran.() == 11
      # The last token is not followed by a step for nobody.
      assert Enum.count(stream) == 20
      assert ran.() == 11 + 20
    end

    test "a consumer that is killed stops the work" do
      {generation, ran} = counting()
      test = self()

      {consumer, monitor} =
        spawn_monitor(fn ->
          Nx.default_backend(Emily.Backend)

          generation
          |> Generation.stream([1], max_tokens: :infinity)
          |> Stream.with_index(1)
          |> Enum.each(fn {_token, index} -> if index == 5, do: wait(test) end)
        end)

      assert_receive :waiting
      Process.exit(consumer, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^consumer, :killed}
      assert ran.() == 6
    end

    defp wait(test) do
      send(test, :waiting)
      receive(do: (:never -> :ok))
    end

    test "a step is compiled once for each capacity, and a piece of a prompt for each length" do
      counter = :counters.new(2, [])

      forward = fn params, tokens, cache ->
        :counters.add(counter, if(Nx.axis_size(tokens, 1) == 1, do: 1, else: 2), 1)
        SumModel.forward(params, tokens, cache)
      end

      generation = SumModel.generation(forward: forward, room: 32)
      traced = fn -> {:counters.get(counter, 1), :counters.get(counter, 2)} end
      # To know its vocabulary.
      assert traced.() == {1, 0}
      # Pieces of 4, 2 and 1.
      prompt = Enum.take(@prompt ++ @prompt, 8)
      Generation.generate(generation, prompt, max_tokens: 20)
      assert traced.() == {3, 2}
      # Here, too, and nothing else.
      Generation.generate(generation, Enum.take(prompt, 7), max_tokens: 20)
      assert traced.() == {3, 2}
    end

    test "a step for a cache that has grown is compiled before it is needed, elsewhere" do
      test = self()

      forward = fn params, tokens, cache ->
        if Nx.axis_size(tokens, 1) == 1,
          do: send(test, {:traced, Nx.axis_size(cache.tokens, 1), self()})

        SumModel.forward(params, tokens, cache)
      end

      generation = SumModel.generation(forward: forward, room: 128)
      assert_receive {:traced, 128, ^test}

      # The process that compiles is given its time here; otherwise both would.
      on_token = fn _token ->
        receive do
          {:traced, 144, pid} when pid != test ->
            monitor = Process.monitor(pid)
            receive(do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> send(test, :prepared)))
        after
          0 -> :ok
        end
      end

      tokens = Generation.generate(generation, [1], max_tokens: 140, on_token: on_token).tokens
      assert tokens == SumModel.continued([1], 140)
      assert_received :prepared
      assert_received {:traced, 128, ^test}
      refute_received {:traced, _capacity, _pid}
    end

    test "rows stop for themselves" do
      rows = [[1], [2, 2], @prompt]
      [first | _] = expected = Enum.map(rows, &SumModel.continued(&1, 20))
      ending = Enum.at(first, 5)

      result =
        Generation.generate(SumModel.generation(), rows, max_tokens: 20, end_tokens: ending)

      assert result.tokens ==
               Enum.map(expected, fn row -> Enum.take_while(row, &(&1 != ending)) end)

      assert result.reason ==
               Enum.map(expected, &if(ending in &1, do: :end_token, else: :max_tokens))

      assert result.generated_tokens == result.tokens |> List.flatten() |> length()
    end

    test "generation ends with the last row" do
      {generation, ran} = counting()
      rows = [[1], [2]]
      Generation.generate(generation, rows, max_tokens: 20, stop_when: &(length(&1) == 3))
      assert ran.() == 4
    end

    test "a callback and a stream get each token, with its row where there are several" do
      generation = SumModel.generation()
      test = self()
      options = [max_tokens: 4]
      tell = [on_token: &send(test, {:token, &1})]

      single = Generation.generate(generation, [1], options ++ tell)
      assert received() == single.tokens
      assert Enum.to_list(Generation.stream(generation, [1], options)) == single.tokens

      rows = Generation.generate(generation, [[1], [2, 3]], options ++ tell)
      pairs = received()
      assert pairs == Enum.to_list(Generation.stream(generation, [[1], [2, 3]], options))
      assert Enum.group_by(pairs, &elem(&1, 0), &elem(&1, 1)) |> Map.values() == rows.tokens
    end

    defp received do
      receive do
        {:token, token} -> [token | received()]
      after
        0 -> []
      end
    end

    test "tokens are the sequence's beginning until it is found not to be" do
      [a, b, c, d | _] = SumModel.continued(@prompt, 4)
      generation = SumModel.generation()
      tokens = &Generation.generate(generation, @prompt, [max_tokens: 4] ++ &1)

      assert %{tokens: [^a], reason: :stop_sequence} = tokens.(stop_sequences: [[b, c]])
      assert %{tokens: [^a, ^b, ^c, ^d], reason: :max_tokens} = tokens.(stop_sequences: [[b, d]])
    end

    test "a session is a value: whoever continues it, it stays what it was" do
      generation = SumModel.generation(room: 64)
      one = Generation.generate(generation, @prompt, max_tokens: 5)
      assert [read] = one.session.tokens
      assert read == Enum.take(@prompt ++ one.tokens, length(read))

      for _ <- 1..2, more <- [[7], [8, 8, 8]] do
        prompt = @prompt ++ one.tokens ++ more
        two = Generation.generate(generation, prompt, session: one.session, max_tokens: 6)
        assert two.tokens == SumModel.continued(prompt, 6)
        assert two.reused_tokens == length(read)
      end
    end

    test "a cache that cannot be trimmed is begun anew where it would have to be" do
      generation = SumModel.generation(trim: nil)
      session = Generation.prefill(generation, @prompt)
      continued = &Generation.generate(generation, &1, session: session, max_tokens: 3)

      assert continued.(@prompt).reused_tokens == 6
      assert %{reused_tokens: 0, tokens: tokens} = continued.([3, 1, 7])
      assert tokens == SumModel.continued([3, 1, 7], 3)
    end

    test "rows of a session go on together, where as much is new in each" do
      generation = SumModel.generation()
      rows = [[5, 6], @prompt]
      session = Generation.prefill(generation, rows)
      continued = &Generation.generate(generation, &1, session: session, max_tokens: 3)

      for {more, reused} <- [{[[1, 2], [3, 4]], 7}, {[[1], [3, 4]], 0}] do
        rows = Enum.zip_with(rows, more, &++/2)
        assert %{reused_tokens: ^reused, tokens: tokens} = continued.(rows)
        assert tokens == Enum.map(rows, &SumModel.continued(&1, 3))
      end
    end

    test "what raises leaves no message behind" do
      stream = Generation.stream(SumModel.generation(), [1], max_tokens: 20)
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "no" end) end

      assert_raise RuntimeError, fn ->
        Generation.generate(SumModel.generation(), [1], on_token: fn _ -> raise "no" end)
      end

      grow = fn _cache, _capacity -> raise "no room" end

      assert_raise RuntimeError, "no room", fn ->
        Generation.generate(SumModel.generation(grow: grow), [1], max_tokens: 20)
      end

      # A call of the library has come back since.
      Nx.to_binary(Nx.add(Nx.iota({3}), 1))
      refute_received _
    end
  end
end
