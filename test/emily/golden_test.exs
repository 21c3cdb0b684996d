defmodule Emily.GoldenTest do
  @moduledoc """
  Replays golden cases through `Emily.op/3`, so that each operation and its attributes are read from
  Elixir. How exact results must be is for the core's own replay, which knows each operation's units.
  """

  use ExUnit.Case, async: true

  @moduletag :native

  @folder Path.expand("../golden", __DIR__)

  # Of each operation, the first cases of each combination of types and kinds of attributes.
  @cases_each 2

  @types Map.new(
           for(kind <- ~w(u s), bits <- [2, 4, 8, 16, 32, 64], do: {kind, bits}) ++
             [{"f", 8}, {"f", 16}, {"bf", 16}, {"f", 32}, {"f", 64}, {"c", 64}],
           fn {kind, bits} -> {"#{kind}#{bits}", {String.to_atom(kind), bits}} end
         )
         |> Map.put("f8_e4m3fn", {:f8_e4m3fn, 8})

  # What two correct computations in a type may differ by, of the value and below it.
  @tolerance %{
    {:f, 8} => {0.25, 2.0e-5},
    {:f8_e4m3fn, 8} => {0.125, 2.0e-3},
    {:bf, 16} => {3.0e-2, 1.0e-2},
    {:f, 16} => {5.0e-3, 2.0e-3},
    {:f, 32} => {1.0e-4, 1.0e-5},
    {:f, 64} => {1.0e-4, 1.0e-5},
    {:c, 64} => {1.0e-3, 1.0e-4}
  }

  # What Nx takes many rounded steps for may differ by as many times that.
  @many_steps ~w(triangular_solve solve cholesky determinant qr eigh svd lu)
  @steps 32

  # A checked operation gives what it gives otherwise, and Nx has no such thing to record.
  @operations for {name, _attributes} <- Emily.Test.Operations.all(),
                  name != :checked,
                  do: to_string(name)

  for name <- @operations do
    test "#{name} reads its attributes from Elixir and gives what was recorded" do
      cases = cases(unquote(name))
      assert cases != [], "expected golden cases of #{unquote(name)} without views, got none"
      Enum.each(cases, &replay/1)
    end
  end

  test "golden cases are of operations" do
    names = Map.keys(files())
    assert names != []
    assert names -- @operations == []
  end

  # Of Nx, and of MLX's Python package for what Nx does not have.
  defp files do
    for folder <- [@folder, Path.join(@folder, "mlx/quantized")],
        file <- Path.wildcard(Path.join(folder, "*.jsonl.gz")),
        into: %{},
        do: {Path.basename(file, ".jsonl.gz"), file}
  end

  defp cases(name) do
    files()
    |> Map.fetch!(name)
    |> File.read!()
    |> :zlib.gunzip()
    |> String.split("\n", trim: true)
    |> Enum.map(&JSON.decode!/1)
    |> Enum.reject(fn one -> Enum.any?(one["inputs"], &is_map_key(&1, "view")) end)
    |> Enum.group_by(&{types(&1), kinds(&1["op"])})
    |> Enum.reject(fn {{types, _kinds}, _cases} -> "f64" in types and gpu?() end)
    |> Enum.flat_map(fn {_kind, cases} -> Enum.take(cases, @cases_each) end)
  end

  defp types(one), do: Enum.map(outs(one) ++ one["inputs"], & &1["type"])

  defp outs(one), do: one["outs"] || [one["out"]]

  # MLX has no f64 on GPUs.
  defp gpu? do
    {:ok, %{devices: devices}} = Emily.Native.info()
    :gpu in devices
  end

  # Numbers are all of one kind, and what becomes an atom or stays a boolean is one each.
  defp kinds(%{} = attributes),
    do: Map.new(attributes, fn {key, value} -> {key, kinds(value)} end)

  defp kinds([]), do: []
  defp kinds([first | _rest]), do: [kinds(first)]
  defp kinds(number) when is_integer(number), do: :integer
  defp kinds(number) when is_float(number), do: :float
  defp kinds(other), do: other

  defp replay(one) do
    {name, attributes} = operation(one["op"])
    result = Emily.op(name, Enum.map(one["inputs"], &tensor/1), attributes ++ told(one))
    results = if is_tuple(result), do: Tuple.to_list(result), else: [result]

    assert length(results) == length(outs(one))
    for {out, result} <- Enum.zip(outs(one), results), do: compare(out, result, one)
  end

  # What Emily is to be told of the result, where the inputs do not say it.
  defp told(%{"infer" => true}), do: []

  defp told(one) do
    [out] = outs(one)
    [type: @types[out["type"]], shape: out["shape"]]
  end

  defp compare(out, result, one) do
    {type, shape} = {@types[out["type"]], out["shape"]}
    assert {Emily.dtype(result), Emily.shape(result)} == {type, shape}, inspect(one)
    expected = elements(Base.decode64!(out["data"]), type)
    actual = elements(Emily.to_binary(result), type)

    assert length(actual) == length(expected)
    pairs = Enum.zip(expected, actual)

    {name, _attributes} = operation(one["op"])
    steps = if Atom.to_string(name) in @many_steps, do: @steps, else: 1

    different =
      for {expected, actual} <- pairs,
          not close?(expected, actual, type, steps),
          do: {expected, actual}

    if different != [],
      do: flunk("expected and actual elements differ: #{inspect(different)} of #{inspect(one)}")
  end

  defp tensor(%{"data" => data, "shape" => shape, "type" => type}),
    do: Emily.from_binary(Base.decode64!(data), shape, @types[type])

  defp operation(name) when is_binary(name), do: {String.to_atom(name), []}

  defp operation(%{} = operation) do
    [{name, attributes}] = Map.to_list(operation)

    {String.to_atom(name),
     for({key, value} <- attributes, do: {String.to_atom(key), attribute(key, value)})}
  end

  defp attribute("fun", program) do
    %{
      inputs: Enum.map(program["inputs"], &out/1),
      instructions: Enum.map(program["instructions"], &instruction/1),
      outputs: program["outputs"]
    }
  end

  defp attribute("value", [re, im]), do: {attribute("value", re), attribute("value", im)}
  defp attribute("padding", edges), do: Enum.map(edges, &List.to_tuple/1)
  defp attribute(_key, text) when is_binary(text), do: String.to_atom(text)
  defp attribute(_key, value), do: value

  defp instruction(%{"op" => op, "outs" => outs, "inputs" => inputs}) do
    {name, attributes} = operation(op)
    operation = if attributes == [], do: name, else: {name, Map.new(attributes)}
    %{op: operation, outs: Enum.map(outs, &out/1), inputs: inputs}
  end

  defp out(%{"type" => type, "shape" => shape}), do: {@types[type], shape}

  # Elements of less than a byte begin at its highest bits; what fills the last byte is zeros.
  defp elements(binary, {:u, bits}) when bits < 8, do: for(<<x::size(bits) <- binary>>, do: x)

  defp elements(binary, {:s, bits}) when bits < 8,
    do: for(<<x::size(bits)-signed <- binary>>, do: x)

  # e5m2 is the upper half of an f16.
  defp elements(binary, {:f, 8}), do: for(<<x <- binary>>, do: float(<<0, x>>, 16))
  defp elements(binary, {:f8_e4m3fn, 8}), do: for(<<x::bits-8 <- binary>>, do: e4m3fn(x))

  # The recorder and the machines that Emily runs on are little-endian.
  defp elements(binary, {:u, bits}), do: for(<<x::size(bits)-little <- binary>>, do: x)
  defp elements(binary, {:s, bits}), do: for(<<x::size(bits)-little-signed <- binary>>, do: x)

  defp elements(binary, {:c, 64}),
    do: for([re, im] <- Enum.chunk_every(elements(binary, {:f, 32}), 2), do: {re, im})

  defp elements(binary, {:bf, 16}),
    do: for(<<high::16-little <- binary>>, do: float(<<0::16, high::16-little>>, 32))

  defp elements(binary, {:f, bits}),
    do: for(<<x::binary-size(div(bits, 8)) <- binary>>, do: float(x, bits))

  defp e4m3fn(<<_sign::1, 127::7>>), do: :nan
  defp e4m3fn(<<1::1, rest::7>>), do: -e4m3fn(<<0::1, rest::7>>)
  defp e4m3fn(<<0::1, 0::4, fraction::3>>), do: fraction * 2.0 ** -9
  defp e4m3fn(<<0::1, exponent::4, fraction::3>>), do: (8 + fraction) * 2.0 ** (exponent - 10)

  # Bits that are no number do not match a float.
  defp float(bytes, bits) do
    case bytes do
      <<x::size(bits)-little-float>> -> x
      _not_finite -> not_finite(bytes, bits)
    end
  end

  defp not_finite(bytes, bits) do
    <<number::size(bits)-little>> = bytes
    fraction = %{16 => 10, 32 => 23, 64 => 52}[bits]

    <<sign::1, _exponent::size(bits - 1 - fraction), rest::size(fraction)>> =
      <<number::size(bits)>>

    case {rest, sign} do
      {0, 0} -> :infinity
      {0, 1} -> :neg_infinity
      _nan -> :nan
    end
  end

  defp close?(one, one, _type, _steps), do: true

  defp close?(expected, actual, type, steps) when is_map_key(@tolerance, type) do
    {relative, absolute} = @tolerance[type]
    allowed = &(steps * (relative * &1 + absolute))

    case {expected, actual} do
      {{a, b}, {c, d}} when is_float(a) and is_float(b) and is_float(c) and is_float(d) ->
        size(a - c, b - d) <= allowed.(size(a, b))

      # Where a part of a complex number is not finite, the other one is compared for itself.
      {{a, b}, {c, d}} ->
        close?(a, c, {:f, 32}, steps) and close?(b, d, {:f, 32}, steps)

      {a, b} when is_float(a) and is_float(b) ->
        abs(a - b) <= allowed.(abs(a))

      _other ->
        false
    end
  end

  defp close?(_expected, _actual, _integers, _steps), do: false

  defp size(re, im), do: :math.sqrt(re * re + im * im)
end
