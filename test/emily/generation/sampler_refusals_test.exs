if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.SamplerRefusalsTest do
    use ExUnit.Case, async: true

    alias Emily.Generation.Sampler

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
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
  end
end
