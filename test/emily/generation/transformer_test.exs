if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.TransformerTest do
    @moduledoc "The driver with caches of keys and values, against a model that computes everything anew."

    use ExUnit.Case, async: true

    alias Emily.Generation
    alias Emily.Generation.Cache
    alias Emily.Test.SmallTransformer, as: Model

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    defp prompt(length, seed \\ 0),
      do: for(at <- 1..length, do: rem(at * at * 7 + 3 * at + seed, 50))

    test "texts are those of a model without a cache, whatever length prompts have" do
      size = Model.size()
      generation = Model.generation(size)

      for length <- [1, 2, 9, 24] do
        expected = Model.continued(size, generation.params, prompt(length), 20)
        assert length(Enum.uniq(expected)) > 5
        assert Generation.generate(generation, prompt(length), max_tokens: 20).tokens == expected
      end
    end

    test "each row of a batch is what it is alone" do
      generation = Model.generation(Model.size())
      rows = [prompt(3), prompt(17), prompt(1, 9), prompt(8, 4)]
      alone = for row <- rows, do: Generation.generate(generation, row, max_tokens: 25).tokens
      assert length(Enum.uniq(alone)) == 4
      assert Generation.generate(generation, rows, max_tokens: 25).tokens == alone
    end

    test "the size of a prompt's pieces changes nothing, with a window as well" do
      for kind <- [:growing, {:rotating, 12, 2}] do
        [one | others] =
          for chunk <- [1, 5, 64] do
            Model.size()
            |> Model.generation(cache: [kind: kind], prefill_chunk: chunk)
            |> Generation.generate(prompt(30), max_tokens: 15)
            |> Map.fetch!(:tokens)
          end

        assert Enum.all?(others, &(&1 == one))
      end
    end

    test "a session's beginning serves prompts that begin alike" do
      generation = Model.generation(Model.size())
      session = Generation.prefill(generation, prompt(20))

      for prompt <- [prompt(20) ++ prompt(5, 3), prompt(20), Enum.take(prompt(20), 11) ++ [1, 2]] do
        anew = Generation.generate(generation, prompt, max_tokens: 20)
        assert anew.reused_tokens == 0
        reused = Generation.generate(generation, prompt, max_tokens: 20, session: session)
        assert reused.reused_tokens >= 11
        assert reused.tokens == anew.tokens
      end
    end

    test "a window that has moved on is begun anew where it cannot be trimmed" do
      generation = Model.generation(Model.size(), cache: [kind: {:rotating, 12, 0}])
      session = Generation.prefill(generation, prompt(20))
      other = Enum.take(prompt(20), 15) ++ [1, 2]
      result = Generation.generate(generation, other, max_tokens: 8, session: session)
      assert result.reused_tokens == 0
      assert result.tokens == Generation.generate(generation, other, max_tokens: 8).tokens
      longer = prompt(20) ++ [1]
      assert Generation.generate(generation, longer, session: session).reused_tokens == 19
    end

    test "a draft changes nothing, with growing caches and with windows that have places to spare" do
      size = Model.size()

      for kind <- [:growing, {:rotating, 24, 0, 6}] do
        generation = Model.generation(size, cache: [kind: kind])
        plain = Generation.generate(generation, prompt(9), max_tokens: 40)

        for {draft, agrees?} <- [
              {size, true},
              {Model.size(layers: 1, hidden: 16, seed: 5), false}
            ] do
          draft = Model.generation(draft, cache: [kind: kind])
          options = [draft: draft, draft_tokens: 3, max_tokens: 40]
          result = Generation.generate(generation, prompt(9), options)
          assert result.tokens == plain.tokens
          assert agrees? == result.accepted_tokens / result.drafted_tokens > 0.9
        end
      end
    end

    test "a text goes on through a cache that grows, plain and in fewer bits" do
      for cache <- [[], [bits: 8, group_size: 32]] do
        [growing, large] =
          for options <- [[step: 128], [step: 128, capacity: 256]] do
            generation = Model.generation(Model.size(hidden: 128), cache: cache ++ options)
            Generation.generate(generation, [1], max_tokens: 150)
          end

        assert Cache.capacity(growing.session.cache) == 256
        # Hidden places may change how sums are made, and with them a last digit.
        same = Enum.zip(growing.tokens, large.tokens) |> Enum.take_while(fn {a, b} -> a == b end)
        assert length(same) > 130
      end
    end

    test "a draft changes nothing for texts that a penalty has part in" do
      generation = Model.generation(Model.size())
      options = [max_tokens: 30, repetition_penalty: 1.5, repetition_window: 10]
      plain = Generation.generate(generation, prompt(9), options).tokens
      assert plain != Generation.generate(generation, prompt(9), max_tokens: 30).tokens

      for draft <- [Model.size(), Model.size(layers: 1, seed: 5)] do
        draft = [draft: Model.generation(draft), draft_tokens: 3]
        assert Generation.generate(generation, prompt(9), options ++ draft).tokens == plain
      end
    end

    test "what is held in fewer bits is padded, trimmed and drafted for as well" do
      size = Model.size(hidden: 128)
      generation = Model.generation(size, cache: [bits: 8, group_size: 32])
      rows = [prompt(3), prompt(11)]
      plain = for row <- rows, do: Generation.generate(generation, row, max_tokens: 12).tokens
      assert Generation.generate(generation, rows, max_tokens: 12).tokens == plain

      session = Generation.prefill(generation, prompt(11))

      for options <- [[draft: generation], [session: session]] do
        result = Generation.generate(generation, prompt(11), [max_tokens: 12] ++ options)
        assert result.tokens == List.last(plain)
      end
    end

    test "a step computes on the stream that it is given, and leaves no message between tokens" do
      stream = Emily.Stream.new(:cpu)
      own = [defn_options: [compiler: Emily.Compiler, stream: stream]]
      generation = Model.generation(Model.size(), own)
      expected = Generation.generate(Model.generation(Model.size()), prompt(9), max_tokens: 10)

      tokens =
        for token <- Generation.stream(generation, prompt(9), max_tokens: 10) do
          assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
          token
        end

      assert tokens == expected.tokens
    end

    test "a window without places to spare is refused a draft" do
      generation = Model.generation(Model.size(), cache: [kind: {:rotating, 24, 0}])

      assert_raise ArgumentError, ~r/expected to trim at most the 0 spare positions/, fn ->
        Generation.generate(generation, prompt(3), draft: generation)
      end
    end

    test "sampling options reach the sampler, and a seed makes the same text again" do
      generation = Model.generation(Model.size())

      text =
        &Generation.generate(generation, [prompt(3), prompt(5)], [max_tokens: 30] ++ &1).tokens

      assert text.(temperature: 2.0, seed: 1) == text.(temperature: 2.0, seed: 1)
      assert text.(temperature: 2.0, seed: 1) != text.(temperature: 2.0, seed: 2)
      # The likeliest only, however they are drawn.
      assert text.(temperature: 2.0, seed: 1, top_k: 1) == text.([])
      assert text.(temperature: 0) == text.([])
      assert text.(top_p: 0.5, seed: 3) != text.([])

      forbidden = text.([]) |> List.flatten() |> hd()
      assert forbidden not in List.flatten(text.(logit_bias: %{forbidden => :neg_infinity}))
      assert text.(repetition_penalty: 5.0) != text.([])
    end

    test "padding is none of the tokens that a penalty sees" do
      generation = Model.generation(Model.size())
      rows = [[4, 0, 7], prompt(9)]
      options = [max_tokens: 20, repetition_penalty: 1.5]
      alone = for row <- rows, do: Generation.generate(generation, row, options).tokens
      assert Generation.generate(generation, rows, options).tokens == alone
    end

    test "a cache grows by its own steps, which all texts share" do
      counter = :counters.new(1, [])
      size = Model.size()
      forward = Model.forward(size)

      counted = fn params, tokens, cache ->
        if Nx.axis_size(tokens, 1) == 1, do: :counters.add(counter, 1, 1)
        forward.(params, tokens, cache)
      end

      generation = Generation.new(counted, Model.params(size), cache: Model.cache(size))
      before = :counters.get(counter, 1)

      for prompt <- [[1], [2, 3, 4]] do
        result = Generation.generate(generation, prompt, max_tokens: 60)
        assert Cache.capacity(result.session.cache) == 64
        # 16, 32, 48, 64.
        assert :counters.get(counter, 1) - before == 4
      end
    end
  end
end
