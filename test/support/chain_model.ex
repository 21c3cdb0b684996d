if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.ChainModel do
    @moduledoc "A language model whose next token depends on the last one alone, with given probabilities."

    alias Emily.Generation

    @doc "A generation of it; `probabilities` has a row for each token."
    def generation(probabilities) do
      Generation.new(&forward/3, probabilities |> Nx.tensor() |> Nx.log(),
        cache: fn _rows -> Nx.tensor(0, type: :s32) end,
        trim: &Nx.subtract/2
      )
    end

    @doc "The model's function; its cache counts."
    def forward(logits, tokens, position),
      do: {Nx.take(logits, tokens), Nx.add(position, Nx.axis_size(tokens, 1))}

    @doc """
    Of the tokens that follow each token, how many standard deviations their frequencies are from `probabilities`:
    the largest of these.
    """
    def deviation(tokens, probabilities) do
      pairs = Enum.zip(tokens, tl(tokens)) |> Enum.frequencies()

      for {row, from} <- Enum.with_index(probabilities),
          {probability, to} <- Enum.with_index(row) do
        total = Enum.sum(for {{^from, _to}, count} <- pairs, do: count)
        spread = :math.sqrt(max(total * probability * (1 - probability), 1.0e-9))
        abs(Map.get(pairs, {from, to}, 0) - total * probability) / spread
      end
      |> Enum.max()
    end
  end
end
