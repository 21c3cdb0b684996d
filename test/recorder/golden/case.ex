defmodule Emily.Golden.Case do
  @moduledoc """
  One call of an operation: its attributes, inputs, and what Nx gave.

  A line of a golden file is a JSON object:

    * `op`: the operation as `emily-core` reads it, such as `"add"` or `{"sum": {…}}`;
    * `inputs`: objects with `type`, `shape` and `data` (the bytes in base64, little-endian and
      row-major). Where there is a `view`, an operation too, the input is that view of a tensor with
      `data` and the shape `base`, so that its elements do not lie in order in memory;
    * `out`: `type`, `shape` and `data` of the result; `outs`, a list, where there are several;
    * `infer`: whether type and shape of the results follow from operation and inputs.
  """

  alias Emily.Golden.{Exclusions, View}

  @enforce_keys [:op, :inputs, :out, :infer]
  defstruct @enforce_keys

  @types [u: 8, u: 16, u: 32, u: 64, s: 8, s: 16, s: 32, s: 64] ++
           [f: 16, bf: 16, f: 32, f: 64, c: 64]

  @doc "The types that MLX has, which are those that cases are recorded for."
  def types, do: @types

  @doc """
  The case of calling `fun` with `inputs`, in a list; no case where Nx refuses the call or gives a
  type that MLX does not have.

  The options: `infer: false` where the caller chooses type or shape.
  """
  def record(op, inputs, fun, opts \\ []),
    do: record_list(op, inputs, &apply(fun, &1), opts)

  @doc "As `record/4` with a function of the list of inputs, for operations on any number of them."
  def record_list(op, inputs, fun, opts \\ []) do
    inputs = Enum.map(inputs, &View.new/1)

    with {:ok, out} <- attempt(fn -> fun.(Enum.map(inputs, & &1.tensor)) end),
         true <- Enum.all?(results(out), &(&1.type in @types)) do
      [%__MODULE__{op: op, inputs: inputs, out: out, infer: Keyword.get(opts, :infer, true)}]
    else
      _refused -> []
    end
  end

  defp results(%Nx.Tensor{} = out), do: [out]
  defp results(outs) when is_tuple(outs), do: Tuple.to_list(outs)

  @doc """
  As `record/4` for an elementwise function of vectors of equal lengths; elements for which Nx raises
  and `Emily.Golden.Exclusions` are left out.
  """
  def record_elements(op, inputs, fun, opts \\ []) do
    types = Enum.map(inputs, & &1.type)
    rows = Enum.zip_with(Enum.map(inputs, &scalars/1), & &1)

    kept =
      for {row, index} <- Enum.with_index(rows),
          {:ok, out} <- [attempt(fn -> apply(fun, row) end)],
          not Exclusions.excluded?(name(%{op: op}), types, Enum.map(row, &Nx.to_number/1), out),
          do: index

    if kept == [],
      do: [],
      else: record(op, Enum.map(inputs, &Nx.take(&1, Nx.tensor(kept))), fun, opts)
  end

  defp scalars(vector), do: Enum.map(0..(Nx.size(vector) - 1), &vector[&1])

  # BinaryBackend refuses with whichever exception its arithmetic meets first.
  defp attempt(fun) do
    {:ok, fun.()}
  rescue
    error -> {:error, error}
  end

  @doc "The operation's name."
  def name(%{op: op}) when is_map(op), do: op |> Map.keys() |> hd()
  def name(%{op: op}), do: op

  @doc "The case as a line of its file."
  def to_line(one) do
    fields = %{
      op: one.op,
      inputs: Enum.map(one.inputs, &View.fields/1),
      infer: one.infer
    }

    fields =
      if is_tuple(one.out),
        do: Map.put(fields, :outs, Enum.map(results(one.out), &fields/1)),
        else: Map.put(fields, :out, fields(one.out))

    [JSON.encode_to_iodata!(fields, &encode/2), ?\n]
  end

  # A map's own order is that in which its atoms were first loaded.
  defp encode(map, encoder) when is_map(map),
    do: :json.encode_key_value_list(Enum.sort(map), encoder)

  defp encode(other, encoder), do: JSON.protocol_encode(other, encoder)

  @doc "Type, shape and bytes of a tensor."
  def fields(tensor) do
    %{
      type: Nx.Type.to_string(tensor.type),
      shape: Tuple.to_list(tensor.shape),
      data: Base.encode64(Nx.to_binary(tensor))
    }
  end
end
