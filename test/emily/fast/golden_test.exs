if Code.ensure_loaded?(Nx) do
  defmodule Emily.Fast.GoldenTest do
    @moduledoc """
    Replays what MLX's Python package gave on the CPU for the operations of `Emily.Fast` (test/recorder/mlx/fast.py).

    For narrow types MLX composes norms and attention of rounded steps there, where Emily computes in `f32` and rounds
    once. So there are two bounds: how far a result may be from MLX's, and the closer one from what the composed form
    gives in `f64`. Where both differ, Emily is the one that is near: of rows of one number MLX makes a mean that is not
    that number, and of the difference, divided by the root of `epsilon`, 8.0e-5. A rotary embedding is MLX's own, which
    rounds cosines and sines to the tensor's type.
    """

    use ExUnit.Case, async: true

    alias Emily.Fast

    @moduletag :nx
    @moduletag :native

    @cases Path.expand("../../golden/mlx/fast.jsonl.gz", __DIR__)
    @external_resource @cases

    # What may lie between two results, of one or the greater number: from MLX's, and from the exact one.
    @bounds %{
      {:f, 32} => {1.0e-5, 2.0e-6},
      {:f, 16} => {4.0e-3, 6.0e-4},
      {:bf, 16} => {4.0e-2, 5.0e-3},
      {"layer_norm", {:f, 32}} => {1.0e-4, 2.0e-6},
      # Of an angle of 1000, 2 ** -24 is 6.0e-5.
      {"rope", {:f, 32}} => {1.0e-4, 1.0e-4},
      {"rope", {:f, 16}} => {4.0e-3, 4.0e-3},
      {"rope", {:bf, 16}} => {3.0e-2, 3.0e-2}
    }

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    for function <- ~w(rms_norm layer_norm rope scaled_dot_product_attention einsum) do
      test "#{function} gives what MLX gives, eager, compiled and composed" do
        cases = cases(unquote(function))
        assert length(cases) > 20
        Enum.each(cases, &replay/1)
      end
    end

    defp cases(function) do
      @cases
      |> File.read!()
      |> :zlib.gunzip()
      |> String.split("\n", trim: true)
      |> Enum.map(&JSON.decode!/1)
      |> Enum.filter(&(&1["function"] == function))
    end

    defp replay(one) do
      {names, tensors} = one["tensors"] |> Enum.map(&named/1) |> Enum.unzip()
      expected = tensor(one["result"])
      {from_mlx, from_exact} = bounds(one, expected.type)
      call = fn tensors -> call(one, Enum.zip(names, Tuple.to_list(tensors))) end
      there = for x <- tensors, do: Nx.backend_copy(x, {Emily.Backend, device: :cpu})
      there = List.to_tuple(there)

      exact = tensors |> Enum.map(&wide/1) |> List.to_tuple() |> call.()
      composed = call.(List.to_tuple(tensors))
      eager = call.(there)

      compiled =
        Nx.Defn.jit_apply(call, [there],
          compiler: Emily.Compiler,
          device: :cpu,
          native_fallback: :raise
        )

      for {how, result} <- [composed: composed, eager: eager, compiled: compiled] do
        assert {result.type, result.shape} == {expected.type, expected.shape}, about(one, how)
        assert close?(result, expected, from_mlx), about(one, {how, result, expected})
      end

      for {how, result} <- [eager: eager, compiled: compiled] do
        assert %Emily.Backend{} = result.data

        assert close?(result, exact, from_exact),
               about(one, {how, result, exact})
      end
    end

    defp bounds(%{"function" => function}, type),
      do: Map.get_lazy(@bounds, {function, type}, fn -> @bounds[type] end)

    defp call(%{"function" => "einsum", "text" => text}, tensors),
      do: Fast.einsum(text, Enum.map(tensors, &elem(&1, 1)))

    defp call(%{"function" => "rms_norm"} = one, [{_x, x}, {_weight, weight}]),
      do: Fast.rms_norm(x, weight, options(one))

    defp call(%{"function" => "layer_norm"} = one, tensors) do
      [x, weight, bias] = Enum.map(tensors, &elem(&1, 1))
      Fast.layer_norm(x, weight, bias, options(one))
    end

    defp call(%{"function" => "rope"} = one, [{_x, x}, {_offset, offset} | frequencies]),
      do: Fast.rope(x, offset, options(one) ++ frequencies)

    defp call(%{"function" => "scaled_dot_product_attention"} = one, tensors) do
      {[{_q, query}, {_k, key}, {_v, value}], others} = Enum.split(tensors, 3)
      Fast.scaled_dot_product_attention(query, key, value, options(one) ++ others)
    end

    defp options(one),
      do: for({name, value} <- one["options"], do: {String.to_atom(name), value})

    defp named([name, encoded]), do: {String.to_atom(name), tensor(encoded)}

    defp tensor(%{"type" => type, "shape" => shape, "data" => data}) do
      data
      |> Base.decode64!()
      |> Nx.from_binary(String.to_atom(type))
      |> Nx.reshape(List.to_tuple(shape))
    end

    defp wide(%{type: {kind, _size}} = x) when kind in [:f, :bf], do: Nx.as_type(x, :f64)
    defp wide(x), do: x

    # NaN where the other one is NaN, and nowhere else.
    defp close?(result, expected, bound) do
      Enum.zip(numbers(result), numbers(expected))
      |> Enum.all?(fn
        {a, b} when is_float(a) and is_float(b) -> abs(a - b) <= bound * max(1, abs(b))
        {a, b} -> a == b
      end)
    end

    defp numbers(x),
      do: x |> Nx.backend_copy(Nx.BinaryBackend) |> Nx.as_type(:f64) |> Nx.to_flat_list()

    defp about(one, what) do
      given = for [name, tensor] <- one["tensors"], do: {name, tensor["type"], tensor["shape"]}
      inspect({one["function"], one["options"], one["text"], given, what})
    end
  end
end
