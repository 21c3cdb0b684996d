if Code.ensure_loaded?(Nx) do
  defmodule Emily.QuantizedWeightTest do
    use ExUnit.Case, async: true

    alias Emily.{Quantization, QuantizedWeight}

    @moduletag :nx
    @moduletag :native

    doctest Emily.QuantizedWeight

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp random, do: elem(Nx.Random.normal(Nx.Random.key(1), shape: {2, 64}), 0)

    defp same!(a, b, what) do
      [a, b] =
        for weight <- [a, b] do
          for part <- QuantizedWeight.parts(weight),
              do: {part.shape, part.type, Nx.to_binary(part)}
        end

      assert a == b, inspect(what)
    end

    test "is a container" do
      for opts <- [[], [mode: :mxfp4]] do
        weight = Quantization.quantize(random(), opts)
        same!(Nx.Defn.jit_apply(& &1, [weight]), weight, opts)

        same!(
          Nx.Defn.jit_apply(& &1, [Nx.backend_copy(weight, Emily.Backend)],
            compiler: Emily.Compiler,
            native_fallback: :raise
          ),
          weight,
          opts
        )

        same!(weight |> Nx.serialize() |> Nx.deserialize(), weight, opts)
        assert Nx.deserialize(Nx.serialize(weight)) |> QuantizedWeight.type() == {:f, 32}
        assert %{"a" => %QuantizedWeight{}} = Nx.backend_transfer(%{"a" => weight})
      end
    end

    test "is walked as the tensors that it has" do
      affine = Quantization.quantize(random())
      assert [packed: packed, scales: _scales, biases: biases] = Enum.to_list(affine)
      assert {packed, biases} == {affine.packed, affine.biases}
      assert {:scales, affine.scales} in affine
      refute {:scales, affine.biases} in affine

      floats = Quantization.quantize(random(), mode: :mxfp8)
      assert Keyword.keys(Enum.to_list(floats)) == [:packed, :scales]
      assert {Enum.count(affine), Enum.count(floats)} == {3, 2}
      assert Enum.at(floats, 1) == {:scales, floats.scales}
    end

    test "refuses parts that do not go together" do
      %{packed: packed, scales: scales, biases: biases} =
        Quantization.quantize(random())

      affine =
        "expected packed numbers of :u32, and scales and biases of :f32, :f16 or :bf16 that go with them in "

      floats =
        "expected packed numbers of :u32, and scales of :u8 and no biases that go with them in "

      for {parts, opts, message} <- [
            {[Nx.as_type(packed, :s32), scales, biases], [],
             affine <> "groups of 64 numbers of 4 bits, got: s32[2][8], f32[2][1], f32[2][1]"},
            {[packed, scales, nil], [],
             affine <> "groups of 64 numbers of 4 bits, got: u32[2][8], f32[2][1]"},
            {[packed, scales, biases], [bits: 8],
             affine <> "groups of 64 numbers of 8 bits, got: u32[2][8], f32[2][1], f32[2][1]"},
            {[packed, scales, Nx.as_type(biases, :bf16)], [],
             affine <> "groups of 64 numbers of 4 bits, got: u32[2][8], f32[2][1], bf16[2][1]"},
            {[packed, Nx.squeeze(scales), Nx.squeeze(biases)], [],
             affine <> "groups of 64 numbers of 4 bits, got: u32[2][8], f32[2], f32[2]"},
            {[Nx.u32(1), Nx.f32(1), Nx.f32(1)], [],
             affine <> "groups of 64 numbers of 4 bits, got: u32, f32, f32"},
            {[packed, scales, biases], [mode: :mxfp8],
             floats <> "groups of 32 numbers of 8 bits, got: u32[2][8], f32[2][1], f32[2][1]"},
            {[packed, 1, biases], [],
             affine <> "groups of 64 numbers of 4 bits, got: u32[2][8], 1, f32[2][1]"}
          ] do
        assert_raise ArgumentError, message, fn ->
          apply(QuantizedWeight, :new, parts ++ [opts])
        end
      end

      assert_raise ArgumentError, "expected :type to be :f32, :f16 or :bf16, got: :f64", fn ->
        QuantizedWeight.new(packed, scales, biases, type: :f64)
      end
    end
  end
end
