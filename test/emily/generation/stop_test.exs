if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.StopTest do
    use ExUnit.Case, async: true

    alias Emily.Generation.Stop
    alias Emily.Generation.Stop.Row

    @moduletag :nx

    defp stop(options) do
      Stop.new(
        Enum.into(options, %{end_tokens: [], stop_sequences: [], stop_when: nil, max_tokens: 100})
      )
    end

    # What is handed out after each token, what the row has in the end, and why it ended.
    defp pushed(options, tokens) do
      stop = stop(options)
      {given, row} = Enum.map_reduce(tokens, %Row{}, &Stop.push(stop, &2, {&1, &1 / 2}))
      assert row.scores == Enum.map(row.tokens, &(&1 / 2))
      assert List.flatten(given) == Enum.reverse(row.tokens) |> Enum.drop(-length(row.waiting))
      {given, Enum.reverse(row.tokens), row.reason}
    end

    test "a row goes on until something ends it" do
      for {options, tokens, expected} <- [
            {[], [1, 2], {[[1], [2]], [1, 2], nil}},
            {[max_tokens: 2], [1, 2, 3], {[[1], [2], []], [1, 2], :max_tokens}},
            {[end_tokens: 2], [1, 2, 3], {[[1], [], []], [1], :end_token}},
            {[end_tokens: [7, 2]], [2], {[[]], [], :end_token}},
            {[stop_when: &(length(&1) == 2)], [1, 2, 3],
             {[[1], [2], []], [1, 2], :stop_function}},
            {[stop_when: &(hd(&1) == 3)], [1, 2, 3], {[[1], [2], [3]], [1, 2, 3], :stop_function}}
          ] do
        assert pushed(options, tokens) == expected, inspect({options, tokens})
      end
    end

    test "a stop sequence is not handed out, and neither is what may be its beginning" do
      for {sequences, tokens, expected} <- [
            {[[2]], [1, 2, 3], {[[1], [], []], [1], :stop_sequence}},
            {[[2, 3]], [1, 2, 3, 4], {[[1], [], [], []], [1], :stop_sequence}},
            {[[2, 3]], [1, 2, 4], {[[1], [], [2, 4]], [1, 2, 4], nil}},
            {[[2, 3]], [2, 2, 3], {[[], [2], []], [2], :stop_sequence}},
            {[[1, 1, 2]], [1, 1, 1, 2], {[[], [], [1], []], [1], :stop_sequence}},
            {[[1, 2, 1, 3]], [1, 2, 1, 2, 1, 3],
             {[[], [], [], [1, 2], [], []], [1, 2], :stop_sequence}},
            {[[5, 6, 7], [6, 8]], [5, 6, 8], {[[], [], [5]], [5], :stop_sequence}},
            {[[5, 6, 7, 8], [6, 7]], [5, 6, 7], {[[], [], [5]], [5], :stop_sequence}}
          ] do
        assert pushed([stop_sequences: sequences], tokens) == expected,
               inspect({sequences, tokens})
      end
    end

    test "what waits is handed out when the row ends for another reason" do
      waiting = [stop_sequences: [[1, 2, 3]]]

      assert pushed([max_tokens: 2] ++ waiting, [1, 2]) == {[[], [1, 2]], [1, 2], :max_tokens}

      assert pushed([end_tokens: 9] ++ waiting, [1, 2, 9]) ==
               {[[], [], [1, 2]], [1, 2], :end_token}

      assert pushed([stop_when: &(hd(&1) == 2)] ++ waiting, [1, 2]) ==
               {[[], [1, 2]], [1, 2], :stop_function}
    end

    # Against a search of the whole text after each token.
    test "random texts end at the first sequence that is complete" do
      :rand.seed(:exsss, 11)

      for _ <- 1..300 do
        sequences = for _ <- 1..Enum.random(1..3), do: random(Enum.random(1..4))
        tokens = random(30)
        ends = Enum.find(1..30, &ending(Enum.take(tokens, &1), sequences))
        {given, kept, reason} = pushed([stop_sequences: sequences], tokens)

        if ends do
          text = Enum.take(tokens, ends)
          assert kept == Enum.drop(text, -length(ending(text, sequences)))
          assert {List.flatten(given), reason} == {kept, :stop_sequence}
        else
          assert {kept, reason} == {tokens, nil}
        end
      end
    end

    defp random(count), do: for(_ <- 1..count, do: Enum.random(1..2))
    defp ending(text, sequences), do: Enum.find(sequences, &List.ends_with?(text, &1))
  end
end
