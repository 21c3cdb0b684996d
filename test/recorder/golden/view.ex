defmodule Emily.Golden.View do
  @moduledoc """
  An input of a case: a tensor, and how to make it so that its elements do not lie in order.
  """

  alias Emily.Golden.Case

  defstruct [:tensor, :base, :op]

  @doc "A plain tensor as an input."
  def new(%__MODULE__{} = view), do: view
  def new(%Nx.Tensor{} = tensor), do: %__MODULE__{tensor: tensor}

  @doc "The tensor with its axes stored in the opposite order."
  def transposed(tensor) do
    axes = tensor |> Nx.axes() |> Enum.reverse()
    base = Nx.transpose(tensor, axes: axes)
    %__MODULE__{tensor: tensor, base: base, op: %{transpose: %{axes: axes}}}
  end

  @doc "The tensor stored with a gap after each element of its last axis."
  def strided(tensor) do
    rank = Nx.rank(tensor)
    last = rank - 1
    lengths = Tuple.to_list(tensor.shape)
    gap = Nx.as_type(Nx.broadcast(1, tensor.shape), tensor.type)
    wide = Nx.stack([tensor, gap], axis: rank)
    base = Nx.reshape(wide, put_elem(tensor.shape, last, 2 * elem(tensor.shape, last)))

    op = %{
      slice: %{
        starts: List.duplicate(0, rank),
        lengths: List.update_at(lengths, last, &(2 * &1)),
        strides: List.replace_at(List.duplicate(1, rank), last, 2)
      }
    }

    %__MODULE__{tensor: tensor, base: base, op: op}
  end

  @doc "The tensor stored backwards along its last axis."
  def reversed(tensor) do
    axes = [Nx.rank(tensor) - 1]

    %__MODULE__{
      tensor: tensor,
      base: Nx.reverse(tensor, axes: axes),
      op: %{reverse: %{axes: axes}}
    }
  end

  @doc "A vector repeated as the rows of a matrix that stores it once."
  def repeated(vector, rows) do
    # BinaryBackend does not broadcast elements of less than a byte.
    tensor = vector |> List.duplicate(rows) |> Nx.stack()
    %__MODULE__{tensor: tensor, base: vector, op: %{broadcast: %{axes: [1]}}}
  end

  @doc "The tensor as the result of an operation, so that nobody can look at its elements yet."
  def computed(tensor) do
    base = Nx.reshape(tensor, Tuple.insert_at(tensor.shape, 0, 1))
    %__MODULE__{tensor: tensor, base: base, op: "reshape"}
  end

  @doc "The input as part of a line."
  def fields(%{op: nil} = view), do: Case.fields(view.tensor)

  def fields(view) do
    %{data: data, shape: base} = Case.fields(view.base)
    %{Case.fields(view.tensor) | data: data} |> Map.merge(%{base: base, view: view.op})
  end
end
