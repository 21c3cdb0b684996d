if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.PlainSampler do
    @moduledoc "What a sampler does, said once more, to a list of logits; and whether tokens are as frequent as they are likely."

    import ExUnit.Assertions

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

    # Chance gives more once in a hundred thousand times, with up to 9 degrees of freedom.
    @unlikely 40.0

    @doc "Asserts that tokens are as frequent as they are likely."
    def assert_frequent(tokens, probabilities),
      do: assert(chi_square(tokens, probabilities) < @unlikely)

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
  end
end
