if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.SamplerTest do
    use ExUnit.Case, async: true

    import Emily.Test.PlainSampler

    alias Emily.Generation.Sampler
    alias Emily.Test.PlainSampler, as: Plain

    @moduletag :nx
    @moduletag :native

    doctest Sampler

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp compiled(fun, arguments) do
      fun
      |> Nx.Defn.jit_apply(arguments, compiler: Emily.Compiler, native_fallback: :raise)
      |> Nx.backend_copy(Nx.BinaryBackend)
    end

    defp evaluated(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Nx.Defn.Evaluator)

    defp random(shape, seed, scale \\ 2.0) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), 0.0, scale, shape: shape, type: :f32)
      x
    end

    defp assert_near(given, expected) do
      for {x, y} <- Enum.zip(given, expected), do: assert_in_delta(x, y, 1.0e-5)
      assert length(given) == length(expected)
    end

    defp rows(tensor), do: Nx.to_list(tensor)

    @samplers [
      [],
      [temperature: 0.3],
      [temperature: 1.7],
      [top_k: 1],
      [top_k: 5],
      [top_k: 1000],
      [top_p: 1.0e-6],
      [top_p: 0.5],
      [top_p: 0.95],
      [min_p: 0.2],
      [min_p: 1],
      [temperature: 0.7, top_k: 6, top_p: 0.8],
      [temperature: 2.0, top_k: 6, top_p: 0.8, min_p: 0.3],
      [
        temperature: 2.0,
        top_p: 0.8,
        min_p: 0.1,
        top_k: 3,
        order: [:top_p, :min_p, :top_k, :temperature]
      ],
      [temperature: 0.5, top_p: 0.9, top_k: 2, order: [:min_p, :top_p, :temperature, :top_k]],
      [logit_bias: %{3 => 4.0, 0 => :neg_infinity, 7 => -1}],
      [repetition_penalty: 1.5],
      [
        repetition_penalty: 0.5,
        logit_bias: %{5 => 1},
        temperature: 0.8,
        top_k: 7,
        top_p: 0.9,
        min_p: 0.05
      ]
    ]

    describe "probabilities" do
      test "agree with the filters said plainly" do
        for {opts, seed} <- Enum.with_index(@samplers), run <- [&evaluated/2, &compiled/2] do
          sampler = Sampler.new(opts)
          logits = random({3, 30}, seed)
          prompt = [[1, 2, 3, 2], [29, 0, 7, 5], [5, 5, 5, 5]]
          state = Sampler.init(sampler, prompt, seed: 1)
          given = run.(&Sampler.probabilities(sampler, &1, &2), [logits, state])

          for {row, logits, prompt} <- Enum.zip([rows(given), rows(logits), prompt]),
              do: assert_near(row, Plain.probabilities(logits, opts, prompt))
        end
      end

      test "are those of several positions, each after its own tokens" do
        opts = [repetition_penalty: 1.5, repetition_window: 3, top_k: 9]
        logits = random({2, 3, 30}, 5)
        tokens = [[4, 5], [6, 6]]
        prompt = [[1, 2, 3, 2], [29, 0, 7, 5]]

        for opts <- [opts, Keyword.take(opts, [:top_k])] do
          sampler = Sampler.new(opts)
          state = Sampler.init(sampler, prompt, seed: 1)
          arguments = [logits, state, Nx.tensor(tokens)]
          given = compiled(&Sampler.probabilities(sampler, &1, &2, &3), arguments)

          for row <- 0..1, position <- 0..2 do
            seen = Enum.at(prompt, row) ++ Enum.take(Enum.at(tokens, row), position)
            expected = Plain.probabilities(rows(logits[row][position]), opts, Enum.take(seen, -3))
            assert_near(rows(given[row][position]), expected)
          end
        end
      end

      test "of long vocabularies are found among a few tokens" do
        for {count, vocabulary} <- [{3, 1000}, {7, 1013}, {1, 50}] do
          logits = random({2, 3, vocabulary}, count)
          sampler = Sampler.new(top_k: count, top_p: 0.9)
          state = Sampler.init(sampler, [[0], [0]], seed: 1)
          given = compiled(&Sampler.probabilities(sampler, &1, &2), [logits, state])

          for row <- 0..1, position <- 0..2 do
            expected = Plain.probabilities(rows(logits[row][position]), top_k: count, top_p: 0.9)
            assert_near(rows(given[row][position]), expected)
          end
        end

        # No table of the whole vocabulary is sorted.
        sampler = Sampler.new(top_k: 40)
        state = Sampler.init(sampler, [[0]], seed: 1)
        arguments = [Nx.template({1, 100_000}, :f32), state]
        text = Emily.Compiler.explain(&Sampler.sample(sampler, &1, &2), arguments)
        assert text =~ "top_k"
        refute text =~ ~r"= (top_k|sort|argsort) .*100000"
      end

      test "keep all of what is equally likely, or none" do
        logits = Nx.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])

        for {opts, expected} <- [
              {[top_k: 2], [0, 1, 1, 1, 0]},
              {[top_p: 0.3], [0, 1, 1, 1, 0]},
              {[top_k: 2, top_p: 0.5], [0, 1, 1, 1, 0]}
            ] do
          sampler = Sampler.new(opts)
          given = Sampler.probabilities(sampler, logits, Sampler.init(sampler, [[0]]))
          assert_near(Nx.to_flat_list(given), Enum.map(expected, &(&1 / 3)))
        end
      end

      test "of a greedy sampler are 0 and 1" do
        sampler = Sampler.new(temperature: 0, logit_bias: %{2 => 10})

        given =
          Sampler.probabilities(
            sampler,
            Nx.tensor([[5, 0, 0], [20, 1, 1]]),
            Sampler.init(sampler, [[0]])
          )

        assert rows(given) == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
      end
    end

    @draws 20_000

    describe "tokens" do
      test "are as frequent as they are likely" do
        logits = random({1, 10}, 3)
        many = Nx.broadcast(logits, {@draws, 10})

        for opts <- [[], [temperature: 0.5], [top_k: 4], [top_p: 0.7, min_p: 0.1]] do
          sampler = Sampler.new(opts)
          state = Sampler.init(sampler, Nx.broadcast(0, {@draws, 1}), seed: 11)
          draw = fn logits, state -> elem(Sampler.sample(sampler, logits, state), 0) end
          tokens = compiled(draw, [many, state])
          assert Nx.type(tokens) == {:s, 32}
          expected = Plain.probabilities(rows(logits[0]), opts)
          assert_frequent(Nx.to_flat_list(tokens), expected)
        end
      end

      test "are as frequent from one step to the next, and independent" do
        sampler = Sampler.new()
        logits = Nx.log(Nx.tensor([[0.5, 0.3, 0.2]]))
        rows = 500
        state = Sampler.init(sampler, Nx.broadcast(0, {rows, 1}), seed: 5)

        steps = fn logits, state ->
          Enum.map_reduce(1..40, state, fn _step, state ->
            Sampler.sample(sampler, logits, state)
          end)
          |> then(fn {tokens, _state} -> Nx.stack(tokens) end)
        end

        steps = rows(compiled(steps, [Nx.broadcast(logits, {rows, 3}), state]))
        shares = [0.5, 0.3, 0.2]
        assert_frequent(List.flatten(steps), shares)
        pairs = for x <- shares, y <- shares, do: x * y

        later =
          Enum.flat_map(Enum.zip(steps, tl(steps)), fn {x, y} ->
            Enum.zip_with(x, y, &(3 * &1 + &2))
          end)

        beside =
          Enum.flat_map(steps, fn step -> Enum.zip_with(step, tl(step), &(3 * &1 + &2)) end)

        assert_frequent(Enum.take_every(later, 2), pairs)
        assert_frequent(Enum.take_every(beside, 2), pairs)
      end

      test "follow from the seed, alike on all backends" do
        sampler = Sampler.new(temperature: 0.8, top_k: 20)
        logits = random({4, 50}, 8)

        run = fn run, seed ->
          state = Sampler.init(sampler, Nx.broadcast(0, {4, 1}), seed: seed)

          {tokens, _state} =
            Enum.map_reduce(1..8, state, fn _step, state ->
              run.(&Sampler.sample(sampler, &1, &2), [logits, state])
            end)

          Enum.map(tokens, &Nx.to_flat_list/1)
        end

        assert run.(&evaluated/2, 7) == run.(&compiled/2, 7)
        assert run.(&apply/2, 7) == run.(&compiled/2, 7)
        assert run.(&evaluated/2, 7) != run.(&evaluated/2, 8)
        [one, two | _others] = run.(&evaluated/2, 7)
        assert one != two
      end

      test "are the greatest ones of a greedy sampler, which draws nothing" do
        sampler = Sampler.new(temperature: 0.0, top_k: 3)
        logits = random({4, 50}, 8)
        state = Sampler.init(sampler, Nx.broadcast(0, {4, 1}))
        {tokens, next} = compiled(&Sampler.sample(sampler, &1, &2), [logits, state])
        assert tokens == Nx.argmax(logits, axis: -1, type: :s32)
        assert {next.drawn, next.key} == {state.drawn, state.key}
        text = Emily.Compiler.explain(&Sampler.sample(sampler, &1, &2), [logits, state])
        assert text =~ "after: 1 operation (1 argmax)"
      end

      test "are remembered for the penalty" do
        # The greatest logit halves each time, and so others win.
        sampler = Sampler.new(temperature: 0, repetition_penalty: 2.0, repetition_window: 2)
        logits = Nx.tensor([[4.0, 3.0, 2.5], [4.0, 1.0, 1.0]])
        state = Sampler.init(sampler, [[9, 9, 2], [7, 7, 7]], starts: [1, 3])
        assert rows(state.recent) == [[9, 2], [-1, -1]]

        {tokens, state} =
          Enum.map_reduce(1..4, state, fn _step, state ->
            {tokens, state} = compiled(&Sampler.sample(sampler, &1, &2), [logits, state])
            {Nx.to_flat_list(tokens), state}
          end)

        assert tokens == [[0, 0], [1, 0], [2, 0], [0, 0]]
        assert rows(Sampler.observe(sampler, state, Nx.tensor([5, 6])).recent) == [[0, 5], [0, 6]]

        assert rows(Sampler.observe(sampler, state, Nx.tensor([[5, 1, 2], [6, 1, 2]])).recent) ==
                 [[1, 2], [1, 2]]
      end

      test "without weight are not chosen, whatever the number" do
        weights = Nx.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
        numbers = Nx.tensor([0.0, 0.4999, 0.5, 0.75, 1 - 2 ** -24])

        for run <- [&evaluated/2, &compiled/2] do
          many = Nx.broadcast(weights, {5, 5})
          tokens = run.(&Sampler.Draft.choose/2, [many, numbers])
          assert Nx.to_flat_list(tokens) == [1, 1, 3, 3, 3]
        end
      end
    end

    test "a sampler is an argument of functions, which are compiled for it" do
      logits = Nx.tensor([[1.0, 3.0, 2.0]])
      state = Sampler.init(Sampler.new(), [[0]], seed: 1)

      for {bias, token} <- [{%{}, 1}, {%{2 => 5}, 2}, {%{0 => 5}, 0}] do
        sampler = Sampler.new(temperature: 0, logit_bias: bias)
        {tokens, _state} = compiled(&Sampler.sample/3, [sampler, logits, state])
        assert Nx.to_flat_list(tokens) == [token]
      end
    end

    test "the log of a token's probability is that of the bare logits" do
      logits = random({2, 3, 10}, 4)
      tokens = Nx.tensor([[1, 2, 3], [9, 0, 0]])
      given = compiled(&Sampler.log_probability/2, [logits, tokens])

      for row <- 0..1, at <- 0..2 do
        shares = Plain.probabilities(rows(logits[row][at]), [])
        token = Nx.to_number(tokens[row][at])
        assert_in_delta Nx.to_number(given[row][at]), :math.log(Enum.at(shares, token)), 1.0e-5
      end
    end
  end
end
