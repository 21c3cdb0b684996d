defmodule Emily.Generation.Stop do
  @moduledoc false
  # When a row ends, and which of its tokens may be handed out before that is known.
  #
  # A token that may turn out to be the beginning of a stop sequence waits until it cannot be one any more.

  @enforce_keys [:end_tokens, :sequences, :beginnings, :function, :most]
  defstruct [:end_tokens, :sequences, :beginnings, :function, :most]

  @typedoc "The conditions; sequences and all their beginnings have the newest token first, as rows have."
  @type t :: %__MODULE__{
          end_tokens: MapSet.t(non_neg_integer()),
          sequences: [[non_neg_integer(), ...]],
          beginnings: [{pos_integer(), [non_neg_integer(), ...]}],
          function: ([non_neg_integer()] -> as_boolean(term())) | nil,
          most: pos_integer() | :infinity
        }

  @typedoc "Why a row ended."
  @type reason :: :end_token | :stop_sequence | :stop_function | :max_tokens

  defmodule Row do
    @moduledoc false
    # One row's tokens, the newest first: all of them, their log-probabilities if these are known, and those that wait
    # to be handed out.
    defstruct tokens: [], scores: [], waiting: [], count: 0, reason: nil

    @type t :: %__MODULE__{
            tokens: [non_neg_integer()],
            scores: [float() | nil],
            waiting: [non_neg_integer()],
            count: non_neg_integer(),
            reason: Emily.Generation.Stop.reason() | nil
          }
  end

  @spec new(map()) :: t()
  def new(options) do
    sequences = Enum.map(options.stop_sequences, &Enum.reverse/1)

    %__MODULE__{
      end_tokens: options.end_tokens |> List.wrap() |> MapSet.new(),
      sequences: sequences,
      beginnings: beginnings(sequences),
      function: options.stop_when,
      most: options.max_tokens
    }
  end

  # Longest first: what the longest one holds back is all that is to be held back.
  defp beginnings(sequences) do
    found =
      for [_last | rest] <- sequences, count <- 1..length(rest)//1 do
        {count, Enum.take(rest, -count)}
      end

    found |> Enum.uniq() |> Enum.sort(:desc)
  end

  @doc "A row that was given a token with its score, and what of it can be handed out now, in order."
  @spec push(t(), Row.t(), {non_neg_integer(), float() | nil}) :: {[non_neg_integer()], Row.t()}
  def push(_stop, %Row{reason: reason} = row, _token) when reason != nil, do: {[], row}

  def push(stop, row, {token, score}) do
    if MapSet.member?(stop.end_tokens, token) do
      finish(row, :end_token)
    else
      row = %{
        row
        | tokens: [token | row.tokens],
          scores: if(score, do: [score | row.scores], else: []),
          waiting: [token | row.waiting],
          count: row.count + 1
      }

      judge(stop, row)
    end
  end

  defp judge(stop, row) do
    cond do
      sequence = Enum.find(stop.sequences, &List.starts_with?(row.tokens, &1)) ->
        # All of it is waiting: each of its tokens was its beginning when it came.
        finish(without(row, length(sequence)), :stop_sequence)

      stop.function && stop.function.(row.tokens) ->
        finish(row, :stop_function)

      row.count == stop.most ->
        finish(row, :max_tokens)

      true ->
        release(row, held(stop, row))
    end
  end

  defp without(row, count) do
    %{
      row
      | tokens: Enum.drop(row.tokens, count),
        scores: Enum.drop(row.scores, count),
        waiting: Enum.drop(row.waiting, count),
        count: row.count - count
    }
  end

  defp finish(row, reason), do: release(%{row | reason: reason}, 0)

  defp held(stop, row) do
    Enum.find_value(stop.beginnings, 0, fn {count, beginning} ->
      if List.starts_with?(row.tokens, beginning), do: count
    end)
  end

  defp release(row, held) do
    {waiting, ready} = Enum.split(row.waiting, held)
    {Enum.reverse(ready), %{row | waiting: waiting}}
  end
end
