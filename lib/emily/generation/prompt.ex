defmodule Emily.Generation.Prompt do
  @moduledoc false
  # What is to be continued: rows of tokens, which are checked here and nowhere else.

  @enforce_keys [:rows, :single?]
  defstruct [:rows, :single?]

  @typedoc "Each row's tokens; `single?` where a row was given and not a batch."
  @type t :: %__MODULE__{rows: [[non_neg_integer()], ...], single?: boolean()}

  @wanted "the prompt to be a list of tokens, a list of such lists, or an integer tensor of one or two axes"

  @doc "The prompt that a caller gave, for a model that knows `vocabulary` tokens."
  @spec new(term(), pos_integer()) :: t()
  def new(%Nx.Tensor{} = tensor, vocabulary) do
    if not (Nx.Type.integer?(tensor.type) and Nx.rank(tensor) in [1, 2] and
              tensor.vectorized_axes == []),
       do: refuse(@wanted, tensor)

    tensor |> Nx.to_list() |> new(vocabulary)
  end

  def new([first | _] = rows, vocabulary) when is_list(first),
    do: %__MODULE__{rows: Enum.map(rows, &row(&1, vocabulary)), single?: false}

  def new(row, vocabulary) when is_list(row),
    do: %__MODULE__{rows: [row(row, vocabulary)], single?: true}

  def new(other, _vocabulary), do: refuse(@wanted, other)

  defp row([_ | _] = row, vocabulary) do
    if List.improper?(row), do: refuse("a prompt to be a list", row)
    Enum.each(row, &token(&1, vocabulary))
    row
  end

  defp row([], _vocabulary), do: refuse("a prompt to have at least one token", [])
  defp row(other, _vocabulary), do: refuse("each prompt of a batch to be a list of tokens", other)

  defp token(token, vocabulary) when is_integer(token) and token >= 0 and token < vocabulary,
    do: :ok

  defp token(token, vocabulary),
    do: refuse("tokens to be integers from 0 to #{vocabulary - 1}", token)

  defp refuse(expected, got),
    do: raise(ArgumentError, "expected #{expected}, got: #{inspect(got)}")

  @doc "How many tokens each row has."
  @spec lengths(t()) :: [pos_integer()]
  def lengths(%__MODULE__{rows: rows}), do: Enum.map(rows, &length/1)
end
