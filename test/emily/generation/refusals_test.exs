if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.RefusalsTest do
    use ExUnit.Case, async: true

    alias Emily.Generation
    alias Emily.Test.SumModel

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    defp refused(message, fun),
      do: assert(Exception.message(assert_raise(ArgumentError, fun)) =~ message)

    @tensor "expected the prompt to be a list of tokens, a list of such lists, or an integer tensor of one or two axes"

    test "prompts that are none" do
      generation = SumModel.generation()

      for {prompt, message} <- [
            {[], "expected a prompt to have at least one token, got: []"},
            {[[1], []], "expected a prompt to have at least one token, got: []"},
            {[1, 31], "expected tokens to be integers from 0 to 30, got: 31"},
            {[1, -1], "expected tokens to be integers from 0 to 30, got: -1"},
            {[1, 2.0], "expected tokens to be integers from 0 to 30, got: 2.0"},
            {[1 | 2], "expected a prompt to be a list, got: [1 | 2]"},
            {[[1], 2], "expected each prompt of a batch to be a list of tokens, got: 2"},
            {[[1], "a"], "expected each prompt of a batch to be a list of tokens, got: \"a\""},
            {"text", "#{@tensor}, got: \"text\""},
            {nil, "#{@tensor}, got: nil"},
            {Nx.tensor([1.0]), "#{@tensor}, got: #Nx.Tensor<"},
            {Nx.tensor(1), "#{@tensor}, got: #Nx.Tensor<"},
            {Nx.tensor([[[1]]]), "#{@tensor}, got: #Nx.Tensor<"},
            {Nx.tensor([1, 99]), "expected tokens to be integers from 0 to 30, got: 99"}
          ],
          call <- [&Generation.generate/2, &Generation.stream/2, &Generation.prefill/2] do
        refused(message, fn -> call.(generation, prompt) end)
      end
    end

    test "options that do not fit" do
      generation = SumModel.generation()

      for {options, message} <- [
            {[max_tokens: 0],
             "expected :max_tokens to be a positive integer or :infinity, got: 0"},
            {[end_tokens: :eos],
             "expected :end_tokens to be a token or a list of tokens, got: :eos"},
            {[stop_sequences: [1, 2]],
             "expected :stop_sequences to be a list of lists of tokens, none of them empty, got: [1, 2]"},
            {[stop_sequences: [[]]],
             "expected :stop_sequences to be a list of lists of tokens, none of them empty, got: [[]]"},
            {[stop_when: 1],
             "expected :stop_when to be a function of the tokens, the newest first, got: 1"},
            {[session: %{}], "expected :session to be an Emily.Generation.Session, got: %{}"},
            {[log_probabilities: 1], "expected :log_probabilities to be true or false, got: 1"},
            {[draft: :small], "expected :draft to be an Emily.Generation, got: :small"},
            {[draft_tokens: 0], "expected :draft_tokens to be a positive integer, got: 0"},
            {[seed: -1], "expected :seed to be an integer from 0 on, got: -1"},
            {[top_p: 2], "expected :top_p to be a number above 0 and up to 1, got: 2"},
            {[logit_bias: %{31 => 1.0}], "expected tokens of :logit_bias from 0 to 30, got: 31"},
            {%{max_tokens: 1}, "expected a keyword list of options, got: %{max_tokens: 1}"}
          ],
          call <- [&Generation.generate/3, &Generation.stream/3] do
        refused(message, fn -> call.(generation, [1], options) end)
      end

      refused(
        "expected :on_token to be a function of what stream/3 has as elements, got: :print",
        fn -> Generation.generate(generation, [1], on_token: :print) end
      )

      refused(~r/expected options among .* got: \[:on_token\]/, fn ->
        Generation.stream(generation, [1], on_token: &IO.puts/1)
      end)

      for call <- [&Generation.generate/3, &Generation.stream/3, &Generation.prefill/3] do
        refused(~r/expected options among .*:session.*, got: \[:maxtokens\]/, fn ->
          call.(generation, [1], maxtokens: 3)
        end)
      end
    end

    test "a draft that does not fit" do
      generation = SumModel.generation()

      other =
        Generation.new(
          fn _, tokens, cache -> {Nx.broadcast(0.0, put_size(tokens)), cache} end,
          %{},
          cache: fn _rows -> {} end,
          trim: fn cache, _count -> cache end
        )

      for {generation, prompt, draft, message} <- [
            {generation, [1], other,
             "expected a :draft with the model's vocabulary of 31, got: 3"},
            {generation, [[1], [2]], generation, "expected one prompt for a :draft, got: 2"},
            {generation, [1], SumModel.generation(trim: nil),
             "expected the draft's cache to have :trim, for a :draft, got: one without"},
            {SumModel.generation(trim: nil), [1], generation,
             "expected the model's cache to have :trim, for a :draft, got: one without"}
          ] do
        refused(message, fn -> Generation.generate(generation, prompt, draft: draft) end)
      end
    end

    defp put_size(tokens), do: Tuple.insert_at(Nx.shape(tokens), 2, 3)

    test "a session of other rows" do
      generation = SumModel.generation()
      session = Generation.prefill(generation, [1, 2])

      refused("expected a prompt of as many rows as the session has, 1, got: 2", fn ->
        Generation.generate(generation, [[1], [2]], session: session)
      end)
    end

    test "a cache that is too small, or has no padding" do
      full = SumModel.generation(grow: nil, room: 8)
      assert %{tokens: [_, _, _, _, _, _]} = Generation.generate(full, [1, 2, 3], max_tokens: 6)

      refused(
        "expected a prompt and :max_tokens of at most 8 positions together, which is the cache's :capacity, got: 9",
        fn -> Generation.generate(full, [1, 2, 3], max_tokens: 7) end
      )

      refused(
        "expected at most 8 positions, which is the cache's :capacity, got: 9",
        fn -> full |> Generation.stream([1, 2, 3], max_tokens: :infinity) |> Enum.to_list() end
      )

      refused(
        "expected prompts of the same length for a cache without :pad, got: lengths of [1, 2]",
        fn -> Generation.generate(SumModel.generation(pad: nil), [[1], [1, 2]]) end
      )
    end

    test "models that are none" do
      returning = fn fun -> fn -> SumModel.generation(forward: fun) end end
      expected = "expected the model's function to return"

      for {fun, message} <- [
            {fn _params, tokens, _cache -> tokens end,
             "#{expected} {logits, cache}, got: s32[1][1]"},
            {fn _params, _tokens, cache -> {cache.position, cache} end,
             "#{expected} logits of shape {1, 1, vocabulary} for tokens {1, 1}, got: s32"},
            {fn _params, tokens, cache -> {Nx.new_axis(tokens, 2), cache} end,
             "#{expected} logits of a floating type, got: s32[1][1][1]"},
            {fn params, tokens, cache ->
               {logits, cache} = SumModel.forward(params, tokens, cache)
               {logits, %{cache | position: Nx.as_type(cache.position, :f32)}}
             end,
             "#{expected} a cache of the types and shapes that it was given, such as s32, got: f32"},
            {fn params, tokens, cache ->
               {logits, cache} = SumModel.forward(params, tokens, cache)
               {logits, Map.delete(cache, :starts)}
             end, "#{expected} a cache of 3 tensors, as it was given, got: 2 tensors"}
          ] do
        refused(message, returning.(fun))
      end

      refused("expected a function of parameters, tokens and a cache, got: :model", fn ->
        Generation.new(:model, %{}, cache: [])
      end)
    end

    test "options of the model that do not fit" do
      for {options, message} <- [
            {[prefill_chunk: 0], "expected :prefill_chunk to be a positive integer, got: 0"},
            {[capacity: 0],
             "expected :capacity to be a positive integer, :infinity or a function of the cache, got: 0"},
            {[grow: 1], "expected :grow to be a function of 2 arguments, got: 1"},
            {[defn_options: Emily.Compiler],
             "expected :defn_options to be a keyword list, got: Emily.Compiler"},
            {[cache: 1],
             "expected :cache to be the options of Emily.Generation.Cache.new/1 but for :batch, " <>
               "or a function of the number of rows, got: 1"},
            {[cache: [layers: 1, heads: 1, head_size: 2, batch: 3]],
             "expected :cache to be the options of Emily.Generation.Cache.new/1 but for :batch"},
            {[cache: [layers: 1, heads: 1, head_size: 2], pad: nil, trim: nil, grow: nil],
             "expected :capacity beside a function as :cache, got: "},
            {[cache: [layers: 0, heads: 1, head_size: 2], capacity: :infinity] ++
               [pad: nil, trim: nil, grow: nil],
             "expected :layers to be a positive integer, got: 0"}
          ] do
        refused(message, fn -> SumModel.generation(options) end)
      end

      refused("expected options among", fn ->
        Generation.new(fn _, _, _ -> 1 end, %{}, chunk: 1)
      end)
    end
  end
end
