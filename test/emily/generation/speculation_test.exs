if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.SpeculationTest do
    use ExUnit.Case, async: true

    alias Emily.Generation
    alias Emily.Test.{ChainModel, SumModel}

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    @prompt [3, 1, 4, 1, 5, 9, 2]

    # The model, but for places where it says another token: where the position is a multiple of `often`.
    defp draft(often) do
      forward = fn params, tokens, cache ->
        {logits, after_it} = SumModel.forward(params, tokens, cache)
        place = Nx.add(cache.position, Nx.iota({1, Nx.axis_size(tokens, 1), 1}, type: :s32))
        wrong = Nx.equal(Nx.remainder(place, often), 0) |> Nx.broadcast(logits)
        {Nx.select(wrong, Nx.negate(logits), logits), after_it}
      end

      SumModel.generation(forward: forward)
    end

    test "a draft changes nothing about a greedy text, whether it agrees always, often, seldom or never" do
      generation = SumModel.generation()

      accepted =
        for {name, draft} <- [
              always: generation,
              often: draft(5),
              seldom: draft(2),
              never: draft(1)
            ] do
          shares =
            for count <- [1, 3, 4], length <- [1, 7] do
              prompt = Enum.take(@prompt, length)
              options = [draft: draft, draft_tokens: count, max_tokens: 30]
              result = Generation.generate(generation, prompt, options)
              assert result.tokens == SumModel.continued(prompt, 30)
              assert result.reason == :max_tokens
              assert rem(result.drafted_tokens, count) == 0
              result.accepted_tokens / result.drafted_tokens
            end

          {name, Enum.sum(shares) / length(shares)}
        end

      assert [always: 1.0, often: often, seldom: seldom, never: never] = accepted
      assert 1 > often and often > seldom and seldom > never and never == 0
    end

    test "tokens of a round are stopped at, and streamed, as if they had come one by one" do
      generation = SumModel.generation()
      expected = [a, b, c, d, e | _] = SumModel.continued(@prompt, 20)
      speculative = [draft: draft(3), draft_tokens: 3, max_tokens: 20]

      assert Enum.to_list(Generation.stream(generation, @prompt, speculative)) == expected

      for {options, tokens, reason} <- [
            {[stop_sequences: [[d, e]]], [a, b, c], :stop_sequence},
            {[end_tokens: [c]], [a, b], :end_token},
            {[stop_when: &(length(&1) == 4)], [a, b, c, d], :stop_function}
          ] do
        assert %{tokens: ^tokens, reason: ^reason} =
                 Generation.generate(generation, @prompt, speculative ++ options)
      end
    end

    test "one round is under way ahead of what is handed out" do
      counter = :counters.new(1, [])

      forward = fn params, tokens, cache ->
        {logits, cache} = SumModel.forward(params, tokens, cache)
        {Nx.Defn.Kernel.io_call(logits, fn _ -> :counters.add(counter, 1, 1) end), cache}
      end

      SumModel.generation(forward: forward)
      |> Generation.stream([1], draft: draft(1), max_tokens: 20)
      |> Stream.take(10)
      |> Stream.with_index(1)
      |> Enum.each(fn {_token, index} -> assert :counters.get(counter, 1) == index + 1 end)

      assert :counters.get(counter, 1) == 11
    end

    test "a session goes on after a draft, with another one and without" do
      generation = SumModel.generation()

      for often <- [1, 2, 100], most <- [1, 6] do
        options = [draft: draft(often), max_tokens: most]
        one = Generation.generate(generation, @prompt, options)
        [read] = one.session.tokens
        assert List.starts_with?(@prompt ++ SumModel.continued(@prompt, 20), read)
        assert one.session.draft.tokens == [read]
        assert one.session.used == length(read)

        for options <- [[], [draft: draft(often)], [draft: draft(7)]] do
          options = [session: one.session, max_tokens: 9] ++ options
          prompt = @prompt ++ one.tokens ++ [8]
          two = Generation.generate(generation, prompt, options)
          assert two.tokens == SumModel.continued(prompt, 9)
          assert two.reused_tokens > 5
        end
      end
    end

    @target [
      [0.1, 0.2, 0.3, 0.4],
      [0.7, 0.1, 0.1, 0.1],
      [0.25, 0.25, 0.25, 0.25],
      [0.0, 0.5, 0.5, 0.0]
    ]
    @other [
      [0.4, 0.3, 0.2, 0.1],
      [0.1, 0.1, 0.1, 0.7],
      [0.7, 0.1, 0.1, 0.1],
      [0.0, 0.5, 0.5, 0.0]
    ]

    test "sampled texts have the model's probabilities, with a draft and without" do
      generation = ChainModel.generation(@target)
      options = [temperature: 1.0, seed: 7, max_tokens: 800]

      for draft <- [[], [draft: ChainModel.generation(@other), draft_tokens: 3]] do
        tokens = Generation.generate(generation, [0], options ++ draft).tokens
        assert length(tokens) == 800
        assert ChainModel.deviation(tokens, @target) < 4.5
        # The measure tells the two models apart.
        assert ChainModel.deviation(tokens, @other) > 8
      end
    end

    test "log-probabilities are those of the model" do
      generation = ChainModel.generation(@target)
      options = [temperature: 0.7, seed: 3, max_tokens: 40, log_probabilities: true]

      for draft <- [[], [draft: ChainModel.generation(@other), draft_tokens: 3]] do
        result = Generation.generate(generation, [0], options ++ draft)

        for {{from, to}, score} <-
              Enum.zip(Enum.zip([0 | result.tokens], result.tokens), result.log_probabilities) do
          probability = @target |> Enum.at(from) |> Enum.at(to)
          assert_in_delta score, :math.log(probability), 1.0e-5
        end

        assert length(result.log_probabilities) == 40
      end

      assert Generation.generate(generation, [0], max_tokens: 2).log_probabilities == nil
    end
  end
end
