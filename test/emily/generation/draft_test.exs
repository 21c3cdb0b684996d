if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.DraftTest do
    use ExUnit.Case, async: true

    import Emily.Test.PlainSampler

    alias Emily.Generation.Sampler

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp compiled(fun, arguments) do
      fun
      |> Nx.Defn.jit_apply(arguments, compiler: Emily.Compiler, native_fallback: :raise)
      |> Nx.backend_copy(Nx.BinaryBackend)
    end

    defp random(shape, seed, scale) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), 0.0, scale, shape: shape, type: :f32)
      x
    end

    defp rows(tensor), do: Nx.to_list(tensor)

    @draws 20_000

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
          assert_frequent(tokens, rows(target[at]))
        end

        # As often as the two agree: what both give, added up.
        both = Nx.to_flat_list(Nx.sum(Nx.min(target[0..1], draft), axes: [1]))
        [first, second] = both
        times = [1 - first, first * (1 - second), first * second]
        assert_frequent(Nx.to_flat_list(accepted), times)
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
        assert_frequent(Enum.map(outcome, &hd/1), rows(target[0]))
        seconds = for [3, second] <- outcome, do: second
        assert_frequent(seconds, rows(target[1]))
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
  end
end
