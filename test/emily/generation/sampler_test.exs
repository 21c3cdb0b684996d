if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.SamplerTest do
    use ExUnit.Case, async: true

    alias Emily.Generation.Sampler

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

    # What a sampler does, said once more, to a list of logits.
    defmodule Plain do
      def probabilities(logits, opts, recent \\ []) do
        order = Keyword.get(opts, :order, [:temperature, :top_k, :top_p, :min_p])

        logits = logits |> bias(opts[:logit_bias]) |> penalty(opts[:repetition_penalty], recent)
        left = Enum.zip(logits, Stream.iterate(0, &(&1 + 1)))
        left = Enum.reduce(order, left, &filter(&1, opts[&1], &2))
        shares = left |> shares() |> Map.new(fn {share, token} -> {token, share} end)
        for token <- 0..(length(logits) - 1), do: Map.get(shares, token, 0.0)
      end

      defp bias(logits, nil), do: logits

      defp bias(logits, bias) do
        for {logit, token} <- Enum.with_index(logits) do
          case bias[token] do
            nil -> logit
            :neg_infinity -> -1.0e30
            value -> logit + value
          end
        end
      end

      defp penalty(logits, nil, _recent), do: logits

      defp penalty(logits, penalty, recent) do
        for {logit, token} <- Enum.with_index(logits) do
          cond do
            token not in recent -> logit
            logit < 0 -> logit * penalty
            true -> logit / penalty
          end
        end
      end

      defp shares(left) do
        {most, _token} = Enum.max(left)
        exps = for {logit, token} <- left, do: {:math.exp(max(logit - most, -500.0)), token}
        all = exps |> Enum.map(&elem(&1, 0)) |> Enum.sum()
        for {exp, token} <- exps, do: {exp / all, token}
      end

      defp filter(_name, nil, left), do: left

      defp filter(:temperature, by, left),
        do: for({logit, token} <- left, do: {logit / by, token})

      defp filter(:top_k, count, left), do: left |> Enum.sort(:desc) |> Enum.take(count)

      defp filter(:top_p, share, left) do
        sorted = left |> shares() |> Enum.sort(:desc)

        {kept, _sum} =
          Enum.reduce_while(sorted, {[], 0.0}, fn {part, token}, {kept, sum} ->
            if sum < share, do: {:cont, {[token | kept], sum + part}}, else: {:halt, {kept, sum}}
          end)

        Enum.filter(left, fn {_logit, token} -> token in kept end)
      end

      defp filter(:min_p, share, left) do
        shares = shares(left)
        {most, _token} = Enum.max(shares)
        kept = for {part, token} <- shares, part >= share * most, do: token
        Enum.filter(left, fn {_logit, token} -> token in kept end)
      end
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

    # How far tokens are from being as frequent as they are likely.
    defp chi_square(tokens, probabilities) do
      total = length(tokens)
      counts = Enum.frequencies(tokens)

      for {probability, token} <- Enum.with_index(probabilities), reduce: 0.0 do
        sum ->
          count = Map.get(counts, token, 0)
          expected = probability * total

          if expected < 1.0e-3 do
            assert count == 0, "token #{token} is never chosen"
            sum
          else
            sum + (count - expected) ** 2 / expected
          end
      end
    end

    # Chance gives more once in a hundred thousand times, with up to 9 degrees of freedom.
    @unlikely 40.0
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
          assert chi_square(Nx.to_flat_list(tokens), expected) < @unlikely
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
        assert chi_square(List.flatten(steps), shares) < @unlikely
        pairs = for x <- shares, y <- shares, do: x * y

        later =
          Enum.flat_map(Enum.zip(steps, tl(steps)), fn {x, y} ->
            Enum.zip_with(x, y, &(3 * &1 + &2))
          end)

        beside =
          Enum.flat_map(steps, fn step -> Enum.zip_with(step, tl(step), &(3 * &1 + &2)) end)

        assert chi_square(Enum.take_every(later, 2), pairs) < @unlikely
        assert chi_square(Enum.take_every(beside, 2), pairs) < @unlikely
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

    describe "a draft" do
      # Tokens for every row by these probabilities, {rows, positions, vocabulary}, and the state after.
      defp drawn(probabilities, state) do
        {batch, drafted, vocabulary} = Nx.shape(probabilities)
        {numbers, state} = Sampler.Random.uniform(state, {batch * drafted})
        flat = Nx.reshape(probabilities, {batch * drafted, vocabulary})
        {Nx.reshape(Sampler.Draft.choose(flat, numbers), {batch, drafted}), state}
      end

      defp shares(positions, seed) do
        logits = random({positions, 5}, seed, 1.5)
        exp = Nx.exp(logits)
        Nx.divide(exp, Nx.sum(exp, axes: [1], keep_axes: true))
      end

      # What comes of the draft: its accepted tokens and the next one, by rows.
      defp outcome(tokens, accepted, next) do
        [tokens, accepted, next]
        |> Enum.map(&Nx.to_list/1)
        |> Enum.zip_with(fn [tokens, accepted, next] -> Enum.take(tokens, accepted) ++ [next] end)
      end

      test "gives tokens that are distributed as the target's" do
        sampler = Sampler.new()
        state = Sampler.init(sampler, Nx.broadcast(0, {@draws, 1}), seed: 3)
        target = shares(3, 1)
        draft = shares(2, 2)

        [targets, drafts] =
          for x <- [target, draft],
              do: Nx.broadcast(Nx.new_axis(x, 0), Tuple.insert_at(x.shape, 0, @draws))

        run = fn targets, drafts, state ->
          {tokens, state} = drawn(drafts, state)
          {accepted, next, state} = Sampler.accept(sampler, targets, drafts, tokens, state)
          {tokens, accepted, next, state}
        end

        {tokens, accepted, next, _state} = compiled(run, [targets, drafts, state])
        outcome = outcome(tokens, accepted, next)

        for at <- 0..2 do
          tokens = outcome |> Enum.map(&Enum.at(&1, at)) |> Enum.reject(&is_nil/1)
          assert length(tokens) > 1000
          assert chi_square(tokens, rows(target[at])) < @unlikely
        end

        # As often as the two agree: what both give, added up.
        both = Nx.to_flat_list(Nx.sum(Nx.min(target[0..1], draft), axes: [1]))
        [first, second] = both
        times = [1 - first, first * (1 - second), first * second]
        assert chi_square(Nx.to_flat_list(accepted), times) < @unlikely
      end

      test "that is sure of its tokens does so, too" do
        sampler = Sampler.new()
        state = Sampler.init(sampler, Nx.broadcast(0, {@draws, 1}), seed: 4)
        target = shares(2, 6)
        targets = Nx.broadcast(target, {@draws, 2, 5})
        tokens = Nx.broadcast(Nx.tensor([3]), {@draws, 1})
        accept = &Sampler.accept(sampler, &1, nil, &2, &3)
        {accepted, next, _state} = compiled(accept, [targets, tokens, state])
        outcome = outcome(tokens, accepted, next)
        assert chi_square(Enum.map(outcome, &hd/1), rows(target[0])) < @unlikely
        seconds = for [3, second] <- outcome, do: second
        assert chi_square(seconds, rows(target[1])) < @unlikely
      end

      test "that has the target's own probabilities is accepted" do
        sampler = Sampler.new()
        state = Sampler.init(sampler, Nx.broadcast(0, {1000, 1}), seed: 4)
        targets = Nx.broadcast(shares(4, 6), {1000, 4, 5})
        drafts = targets[[.., 0..2]]
        {tokens, state} = drawn(drafts, state)
        {accepted, _next, _state} = Sampler.accept(sampler, targets, drafts, tokens, state)
        assert Enum.uniq(Nx.to_flat_list(accepted)) == [3]
      end

      test "of a greedy sampler is accepted up to the first other token" do
        sampler = Sampler.new(temperature: 0, repetition_penalty: 1.1, repetition_window: 3)
        greatest = Nx.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
        tokens = Nx.tensor([[1, 2, 3], [1, 2, 0], [0, 2, 3], [1, 0, 3]])
        target = Sampler.Draft.one_hot(greatest, 5)
        state = Sampler.init(sampler, [[7, 8, 9], [7, 8, 9], [7, 8, 9], [7, 8, 9]])

        {accepted, next, state} =
          compiled(&Sampler.accept(sampler, &1, nil, &2, &3), [target, tokens, state])

        assert Nx.to_flat_list(accepted) == [3, 2, 0, 1]
        assert Nx.to_flat_list(next) == [4, 3, 1, 2]
        assert rows(state.recent) == [[2, 3, 4], [1, 2, 3], [8, 9, 1], [9, 1, 2]]
      end
    end

    describe "what makes no sense is refused" do
      test "when a sampler is made" do
        for {name, values, expected} <- [
              {:temperature, [-1, :warm, nil], "a number from 0 on"},
              {:top_k, [0, 1.5, -2], "a positive integer"},
              {:top_p, [0, 1.01, -1, :most], "a number above 0 and up to 1"},
              {:min_p, [-0.1, 2], "a number from 0 to 1"},
              {:repetition_penalty, [0, -1, "2"], "a positive number"},
              {:repetition_window, [0, nil], "a positive integer"},
              {:order, [[], [:top_k], :mlx],
               "all of [:temperature, :top_k, :top_p, :min_p] in some order"},
              {:logit_bias, [[1], nil], "a map of tokens to numbers or :neg_infinity"}
            ],
            value <- values do
          message = "expected #{inspect(name)} to be #{expected}, got: #{inspect(value)}"
          assert_raise ArgumentError, message, fn -> Sampler.new([{name, value}]) end
        end

        message =
          "expected :logit_bias to be a map of tokens to numbers or :neg_infinity, got: {-1, 2}"

        assert_raise ArgumentError, message, fn -> Sampler.new(logit_bias: %{-1 => 2}) end
        assert_raise ArgumentError, fn -> Sampler.new(top: 2) end
      end

      test "when it begins" do
        sampler = Sampler.new()

        for {prompt, opts, message} <- [
              {[1, 2], [], "expected a prompt of {batch, positions}, integers, got: s32 {2}"},
              {[[1.0]], [], "expected a prompt of {batch, positions}, integers, got: f32 {1, 1}"},
              {[[1]], [seed: -1], "expected :seed to be an integer from 0 on, got: -1"},
              {[[1]], [starts: [1, 2]], "expected :starts of {1}, integers, got: s32 {2}"}
            ] do
          assert_raise ArgumentError, message, fn -> Sampler.init(sampler, prompt, opts) end
        end
      end

      test "when it samples" do
        sampler = Sampler.new(repetition_penalty: 2, logit_bias: %{3 => 1})
        state = Sampler.init(sampler, [[0]])

        for {fun, message} <- [
              {fn -> Sampler.sample(sampler, Nx.iota({5}), state) end,
               "expected logits of {batch, vocabulary}, got: {5}"},
              {fn -> Sampler.sample(sampler, Nx.iota({2, 5}), state) end,
               "expected logits of {1, vocabulary}, the rows that the state is of, got: {2, 5}"},
              {fn -> Sampler.probabilities(sampler, Nx.iota({5}), state) end,
               "expected logits of {batch, vocabulary} or {batch, positions, vocabulary}, got: {5}"},
              {fn -> Sampler.probabilities(sampler, Nx.iota({1, 2, 5}), state) end,
               "expected the tokens between positions for :repetition_penalty, got: nil"},
              {fn -> Sampler.sample(sampler, Nx.iota({1, 3}), state) end,
               "expected tokens of :logit_bias below 3, the size of the vocabulary, got: 3"},
              {fn -> Sampler.observe(sampler, state, Nx.tensor(1)) end,
               "expected tokens of {batch} or {batch, positions}, integers, got: s32 {}"},
              {fn -> Sampler.observe(sampler, state, Nx.tensor([1, 2])) end,
               "expected tokens of 1 rows, which the state is of, got: {2, 1}"},
              {fn -> Sampler.log_probability(Nx.iota({1, 3}), Nx.tensor([1, 2])) end,
               "expected tokens of {1}, integers, got: s32 {2}"},
              {fn ->
                 Sampler.accept(
                   sampler,
                   Nx.iota({1, 3, 4}),
                   Nx.iota({1, 3, 4}),
                   Nx.iota({1, 2}),
                   state
                 )
               end,
               "expected a target of {batch, drafted + 1, vocabulary}, a draft of {batch, drafted, vocabulary} or nil, " <>
                 "and tokens of {batch, drafted}, got: {1, 3, 4}, {1, 3, 4}, {1, 2}"}
            ] do
          assert_raise ArgumentError, message, fun
        end
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
