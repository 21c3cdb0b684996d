defmodule Emily.Golden.Case do
  @moduledoc """
  One call of an operation: its attributes, inputs, and what Nx gave.

  A line of a golden file is a JSON object:

    * `op`: the operation as `emily-core` reads it, such as `"add"` or `{"sum": {…}}`;
    * `inputs`: objects with `type`, `shape` and `data` (the bytes in base64, little-endian and
      row-major, the last one filled with zeros). Where there is a `view`, an operation too, the input is that view of a tensor with
      `data` and the shape `base`, so that its elements do not lie in order in memory;
    * `out`: `type`, `shape` and `data` of the result; `outs`, a list, where there are several;
    * `infer`: whether type and shape of the results follow from operation and inputs.
  """

  alias Emily.Golden.{Exclusions, View}

  @enforce_keys [:op, :inputs, :out, :infer]
  defstruct @enforce_keys

  @wide [u: 8, u: 16, u: 32, u: 64, s: 8, s: 16, s: 32, s: 64] ++
          [f: 16, bf: 16, f: 32, f: 64, c: 64]
  @narrow [u: 2, u: 4, s: 2, s: 4, f: 8, f8_e4m3fn: 8]
  @types @wide ++ @narrow

  # What narrow types meet others for: each kind, signs, and two types that Nx ranks alike.
  @met_by_narrow [u: 8, s: 32, f: 32]
  @met_among_narrow [
    {{:u, 4}, {:s, 2}},
    {{:s, 4}, {:u, 4}},
    {{:u, 2}, {:f, 8}},
    {{:f, 8}, {:f8_e4m3fn, 8}},
    {{:f8_e4m3fn, 8}, {:f, 8}}
  ]

  @doc "The types that cases are recorded for: all of Nx's but `{:c, 128}`."
  def types, do: @types

  @doc "Those of them that MLX has."
  def wide, do: @wide

  @doc "Those of them that MLX does not have."
  def narrow, do: @narrow

  @doc "Whether cases are recorded for these two types together; for all of them they would be many."
  def together?(type, type), do: true

  def together?(left, right) do
    case {left in @narrow, right in @narrow} do
      {false, false} -> true
      {true, true} -> {left, right} in @met_among_narrow
      {true, false} -> right in @met_by_narrow
      {false, true} -> left in @met_by_narrow
    end
  end

  @doc "The pairs of types that are recorded together."
  def pairs(types \\ @types),
    do: for(left <- types, right <- types, together?(left, right), do: {left, right})

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

    to_json(fields)
  end

  @doc "A term as JSON and a line's end, with the keys of maps in order."
  def to_json(term), do: [JSON.encode_to_iodata!(term, &encode/2), ?\n]

  # A map's own order is that in which its atoms were first loaded.
  defp encode(map, encoder) when is_map(map),
    do: :json.encode_key_value_list(Enum.sort(map), encoder)

  defp encode(other, encoder), do: JSON.protocol_encode(other, encoder)

  @doc "Type, shape and bytes of a tensor."
  def fields(tensor) do
    %{
      type: Nx.Type.to_string(tensor.type),
      shape: Tuple.to_list(tensor.shape),
      data: tensor |> Nx.to_binary() |> filled() |> Base.encode64()
    }
  end

  # Elements of less than a byte may end within one.
  defp filled(bits) do
    missing = rem(8 - rem(bit_size(bits), 8), 8)
    <<bits::bitstring, 0::size(missing)>>
  end
end
