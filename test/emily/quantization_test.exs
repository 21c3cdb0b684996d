if Code.ensure_loaded?(Nx) do
  defmodule Emily.QuantizationTest do
    use ExUnit.Case, async: true

    alias Emily.{Quantization, QuantizedWeight}

    @moduletag :nx
    @moduletag :native

    doctest Emily.Quantization

    @affine for bits <- [2, 3, 4, 5, 6, 8],
                size <- [32, 64, 128],
                do: [mode: :affine, bits: bits, group_size: size]
    @schemes @affine ++ [[mode: :mxfp4], [mode: :mxfp8], [mode: :nvfp4]]
    @some [[bits: 3, group_size: 32], [bits: 4], [bits: 8, group_size: 128]] ++
            [[mode: :mxfp4], [mode: :mxfp8], [mode: :nvfp4]]
    @types [:f32, :f16, :bf16]

    # MLX's products on a CPU are rounded to the type at each of 128 steps, half a unit each at most.
    @unit %{f32: 2.0 ** -23, f16: 2.0 ** -10, bf16: 2.0 ** -7}

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp random(shape, type, seed) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape, type: :f32)
      # Emily rounds to the nearest bf16, which Nx does not.
      x |> there() |> Nx.as_type(type) |> here()
    end

    defp there(container), do: Nx.backend_copy(container, Emily.Backend)
    defp here(container), do: Nx.backend_copy(container, Nx.BinaryBackend)

    defp compiled(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Emily.Compiler, native_fallback: :raise)

    defp tensors(%QuantizedWeight{} = weight), do: QuantizedWeight.parts(weight)
    defp tensors(%Nx.Tensor{} = tensor), do: [tensor]

    defp same!(a, b, what) do
      for {a, b} <- Enum.zip(tensors(a), tensors(b)) do
        assert {a.shape, a.type} == {b.shape, b.type}, inspect(what)
        assert Nx.to_binary(a) == Nx.to_binary(b), inspect({what, here(a), here(b)})
      end
    end

    # Eager and compiled are the same, bit for bit, and near what the composed form gives.
    defp near!(fun, arguments, type, terms, what) do
      expected = apply(fun, arguments)
      natives = Enum.map(arguments, &there/1)
      eager = apply(fun, natives)
      assert %Emily.Backend{} = eager.data
      same!(eager, compiled(fun, natives), what)
      assert {eager.shape, eager.type} == {expected.shape, expected.type}, inspect(what)
      [eager, expected] = for x <- [eager, expected], do: x |> here() |> Nx.as_type(:f64)
      difference = eager |> Nx.subtract(expected) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      most = expected |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      assert difference <= terms * @unit[type] * (most + 1), inspect({what, difference, most})
    end

    defp operations(fun, arguments) do
      text = Emily.Compiler.explain(fun, arguments, passes: :none)
      text |> String.split("\n") |> hd()
    end

    describe "quantize/2 and dequantize/1" do
      test "agree with what they stand for, bit for bit but for bf16, which Nx rounds otherwise" do
        for type <- [:f32, :f16], opts <- @schemes, shape <- [{1, 128}, {2, 3, 256}] do
          x = random(shape, type, 3)
          weight = Quantization.quantize(x, opts)
          eager = Quantization.quantize(there(x), opts)
          assert QuantizedWeight.shape(eager) == shape
          assert QuantizedWeight.type(eager) == Nx.Type.normalize!(type)
          same!(eager, weight, {type, opts, shape})
          same!(eager, compiled(&Quantization.quantize(&1, opts), [there(x)]), {type, opts})
          same!(Quantization.dequantize(eager), Quantization.dequantize(weight), {type, opts})
          numbers = compiled(&Quantization.dequantize/1, [eager])
          same!(numbers, Quantization.dequantize(weight), {type, opts})
        end
      end

      test "are as near as a number of so many bits can be" do
        x = random({4, 256}, :bf16, 5)
        most = x |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()

        for opts <- @schemes do
          numbers =
            x |> there() |> Quantization.quantize(opts) |> Quantization.dequantize() |> here()

          assert numbers.type == {:bf, 16}
          difference = x |> Nx.subtract(numbers) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()

          # Half a step of a whole range, and what the types of scales lose; of floats the step at the greatest.
          step = if bits = opts[:bits], do: 2 * most / (2 ** bits - 1), else: most / 1.5
          assert difference <= 0.75 * step + most * 2.0 ** -6, inspect({opts, difference})
        end
      end

      test "are one operation" do
        x = Nx.template({4, 64}, :bf16)

        assert operations(&Quantization.quantize/1, [x]) =~ "1 operation (1 quantize)"

        assert operations(&Quantization.dequantize/1, [
                 Quantization.quantize(random({4, 64}, :f32, 1))
               ]) =~
                 "1 operation (1 dequantize)"
      end

      test "take groups whose numbers are all the same, and those that are all 0" do
        for type <- @types, opts <- @schemes, number <- [0, 1.5] do
          x = Nx.broadcast(Nx.tensor(number, type: type), {2, 128})
          numbers = x |> there() |> Quantization.quantize(opts) |> Quantization.dequantize()
          same!(numbers, x, {type, opts})
        end
      end

      test "take one group of 16, of which MLX's own steps for a CPU want an even number" do
        for rows <- [1, 3] do
          x = random({rows, 16}, :f32, 7)
          weight = Quantization.quantize(x, mode: :nvfp4)
          same!(Quantization.quantize(there(x), mode: :nvfp4), weight, rows)
          same!(Quantization.dequantize(there(weight)), Quantization.dequantize(weight), rows)
        end
      end

      test "refuse what does not fit" do
        x = Nx.iota({2, 64}, type: :f32)

        for {tensor, opts, message} <- [
              {x, [bits: 7], "expected :bits of :affine to be 2, 3, 4, 5, 6 or 8, got: 7"},
              {x, [group_size: 16],
               "expected :group_size of :affine to be 32, 64 or 128, got: 16"},
              {x, [mode: :mxfp4, group_size: 64],
               "expected :group_size of :mxfp4 to be 32, got: 64"},
              {x, [mode: :nf4],
               "expected :mode to be :affine, :mxfp4, :mxfp8 or :nvfp4, got: :nf4"},
              {x, [group_size: 128],
               "expected a tensor of :f32, :f16 or :bf16 with at least two axes, the last one a multiple of 128, " <>
                 "got: f32[2][64]"},
              {Nx.iota({64}, type: :f32), [],
               "expected a tensor of :f32, :f16 or :bf16 with at least two axes, the last one a multiple of 64, " <>
                 "got: f32[64]"},
              {Nx.iota({2, 64}, type: :f64), [],
               "expected a tensor of :f32, :f16 or :bf16 with at least two axes, the last one a multiple of 64, " <>
                 "got: f64[2][64]"}
            ] do
          assert_raise ArgumentError, message, fn -> Quantization.quantize(tensor, opts) end

          assert_raise ArgumentError, message, fn ->
            Quantization.quantize(there(tensor), opts)
          end
        end
      end
    end

    describe "quantized_matmul/3" do
      test "agrees with what it stands for" do
        for type <- @types, opts <- @some, rows <- [1, 5] do
          weight = Quantization.quantize(random({rows, 128}, type, 1), opts)

          for shape <- [{128}, {1, 128}, {3, 128}, {2, 1, 3, 128}] do
            x = random(shape, type, 2)
            near!(&Quantization.quantized_matmul/2, [x, weight], type, 128, {opts, shape})
          end

          plain = &Quantization.quantized_matmul(&1, &2, transpose: false)

          for shape <- [{rows}, {1, rows}, {3, rows}, {2, 1, 3, rows}],
              do: near!(plain, [random(shape, type, 2), weight], type, 128, {opts, shape})
        end
      end

      test "broadcasts the axes before the last two" do
        for opts <- [[group_size: 32], [mode: :mxfp8]],
            {batch, own} <- [
              {[2], [2]},
              {[], [2]},
              {[3, 1], [2]},
              {[2], [3, 2]},
              {[2], [1]}
            ] do
          weight = Quantization.quantize(random(List.to_tuple(own ++ [4, 32]), :f32, 1), opts)
          x = random(List.to_tuple(batch ++ [3, 32]), :f32, 2)
          near!(&Quantization.quantized_matmul/2, [x, weight], :f32, 64, {opts, batch, own})
          vector = random({32}, :f32, 3)
          near!(&Quantization.quantized_matmul/2, [vector, weight], :f32, 64, {opts, own})
        end
      end

      test "need not have MLX's bits" do
        for type <- @types, opts <- @some ++ [[mode: :nvfp4]], transpose <- [true, false] do
          weight = Quantization.quantize(random({3, 128}, type, 1), opts)
          loose = &Quantization.quantized_matmul(&1, &2, transpose: transpose, exact: false)

          for shape <- [{}, {1}, {2, 5}] do
            x =
              random(
                Tuple.insert_at(shape, tuple_size(shape), if(transpose, do: 128, else: 3)),
                type,
                2
              )

            near!(loose, [x, weight], type, 16, {opts, shape})
          end
        end

        # One group of 16 in each row, of which there is an odd number.
        weight = Quantization.quantize(random({3, 16}, :f32, 1), mode: :nvfp4)
        loose = &Quantization.quantized_matmul(&1, &2, exact: false)
        near!(loose, [random({2, 16}, :f32, 2), weight], :f32, 4, :odd)
      end

      test "takes other types, and gives the wider one" do
        weight = Quantization.quantize(random({4, 64}, :bf16, 1))
        floats = Quantization.quantize(random({4, 64}, :bf16, 1), mode: :mxfp4)

        for {type, affine, other} <- [
              {:bf16, :bf16, :bf16},
              {:f16, :f32, :f16},
              {:f32, :f32, :f32},
              {:s32, :f32, :f32},
              {:f64, :f64, :f64}
            ] do
          x = Nx.as_type(random({2, 64}, :f32, 2), type)

          for {weight, out} <- [{weight, affine}, {floats, other}] do
            product = Quantization.quantized_matmul(there(x), there(weight))
            assert product.type == Nx.Type.normalize!(out)
            expected = Quantization.quantized_matmul(x, weight)
            assert expected.type == product.type
            assert_close(product, expected, 0.5)
          end
        end
      end

      test "takes vectorized tensors, and views of others" do
        weight = Quantization.quantize(random({4, 64}, :f32, 1))
        x = random({3, 2, 64}, :f32, 2)
        expected = Quantization.quantized_matmul(x, weight)

        vectorized = Nx.vectorize(there(x), :batch)

        product =
          vectorized
          |> Quantization.quantized_matmul(there(weight))
          |> Nx.devectorize(keep_names: false)

        assert_close(product, expected, 1.0e-4)

        turned = x |> Nx.transpose() |> there() |> Nx.transpose()
        assert_close(Quantization.quantized_matmul(turned, there(weight)), expected, 1.0e-4)
      end

      test "is one operation" do
        weight = Quantization.quantize(random({4, 64}, :f32, 1))
        x = Nx.template({2, 64}, :f32)
        text = operations(&Quantization.quantized_matmul/2, [x, weight])
        assert text =~ "1 operation (1 quantized_matmul)"
      end

      test "has the gradient of the product with the dequantized matrix" do
        x = random({3, 64}, :f32, 2)

        for opts <- [[bits: 3, group_size: 32], [], [mode: :nvfp4]],
            shape <- [{4, 64}, {2, 4, 64}] do
          weight = Quantization.quantize(random(shape, :f32, 1), opts)

          plain = fn x, weight ->
            axes = if tuple_size(shape) == 2, do: [1, 0], else: [0, 2, 1]
            matrix = weight |> Quantization.dequantize() |> Nx.transpose(axes: axes)
            Nx.Defn.grad(x, &(&1 |> dot(matrix) |> Nx.sin() |> Nx.sum()))
          end

          gradient = fn x, weight ->
            Nx.Defn.grad(
              x,
              &(&1 |> Quantization.quantized_matmul(weight) |> Nx.sin() |> Nx.sum())
            )
          end

          expected = Nx.Defn.jit_apply(plain, [x, weight])
          assert_gradient(gradient, [x, weight], expected)
        end
      end

      test "refuses what does not fit" do
        weight = Quantization.quantize(random({4, 64}, :f32, 1))

        for {x, message} <- [
              {Nx.iota({2, 32}),
               "expected a tensor whose last axis has 64 elements, for #Emily.QuantizedWeight<f32[4][64], affine, " <>
                 "4 bits in groups of 64>, got: f32[2][32]"},
              {Nx.tensor(1.0),
               "expected a tensor whose last axis has 64 elements, for #Emily.QuantizedWeight<f32[4][64], affine, " <>
                 "4 bits in groups of 64>, got: f32"}
            ] do
          assert_raise ArgumentError, message, fn -> Quantization.quantized_matmul(x, weight) end
        end

        assert_raise ArgumentError, "expected :transpose to be true or false, got: 1", fn ->
          Quantization.quantized_matmul(Nx.iota({64}), weight, transpose: 1)
        end

        assert_raise ArgumentError, ~r/unknown keys \[:transposed\]/, fn ->
          Quantization.quantized_matmul(Nx.iota({64}), weight, transposed: true)
        end
      end
    end

    describe "gather_qmm/3" do
      test "agrees with what it stands for" do
        for type <- @types,
            opts <- [[group_size: 32], [bits: 5], [mode: :mxfp4], [mode: :nvfp4]] do
          experts = Quantization.quantize(random({3, 4, 64}, type, 1), opts)
          x = random({2, 2, 5, 64}, type, 2)
          row = Nx.tensor([2, 0, 1, 1])
          column = Nx.tensor([[3], [0], [2]], type: :u8)

          for indices <- [
                [lhs_indices: row, rhs_indices: Nx.tensor([0, 2, 1, 1])],
                [lhs_indices: row, rhs_indices: Nx.min(column, 2)],
                [rhs_indices: Nx.tensor([[2, 1], [0, 0]])],
                [rhs_indices: Nx.tensor([[0, 1], [1, 2]]), sorted_indices: true],
                [lhs_indices: Nx.tensor([0, 3, 1])],
                [lhs_indices: Nx.tensor(3), rhs_indices: Nx.tensor(1)]
              ],
              do: near!(&Quantization.gather_qmm(&1, &2, indices), [x, experts], type, 64, opts)

          y = random({3, 4}, type, 2)
          plain = &Quantization.gather_qmm(&1, &2, rhs_indices: Nx.tensor([1]), transpose: false)
          near!(plain, [y, experts], type, 64, opts)
        end
      end

      test "is one operation, and without indices quantized_matmul/3" do
        experts = Quantization.quantize(random({3, 4, 64}, :f32, 1))
        x = random({3, 2, 64}, :f32, 2)
        indices = Nx.tensor([0, 1, 1])
        gather = &Quantization.gather_qmm(&1, &2, rhs_indices: &3)
        assert operations(gather, [x, experts, indices]) =~ "1 operation (1 gather_qmm)"

        same!(
          Quantization.gather_qmm(x, experts),
          Quantization.quantized_matmul(x, experts),
          :none
        )
      end

      test "has a gradient" do
        experts = Quantization.quantize(random({3, 4, 64}, :f32, 1))
        x = random({2, 1, 64}, :f32, 2)

        indices = Nx.tensor([2, 0])
        matrices = experts |> Quantization.dequantize() |> Nx.take(indices)
        expected = matrices |> Nx.sum(axes: [1]) |> Nx.new_axis(1)

        gradient = fn x, experts, indices ->
          Nx.Defn.grad(x, &Nx.sum(Quantization.gather_qmm(&1, experts, rhs_indices: indices)))
        end

        assert_gradient(gradient, [x, experts, indices], expected)
      end

      test "refuses indices that are not within their side" do
        experts = there(Quantization.quantize(random({3, 4, 64}, :f32, 1)))
        x = there(random({2, 1, 64}, :f32, 2))

        for index <- [3, -1] do
          assert_raise ArgumentError, ~r/to be from 0 and below 3 .* got: #{index}/, fn ->
            Quantization.gather_qmm(x, experts, rhs_indices: there(Nx.tensor([0, index])))
          end

          late = fn x, experts, indices ->
            Quantization.gather_qmm(x, experts, rhs_indices: Nx.add(indices, 1))
          end

          assert_raise Emily.Error,
                       ~r/gather_qmm failed: expected each index to be within its axis/,
                       fn ->
                         late
                         |> compiled([x, experts, there(Nx.tensor([0, index - 1]))])
                         |> Nx.to_binary()
                       end
        end

        assert_raise ArgumentError, "expected :rhs_indices to be integers, got: f32[1]", fn ->
          Quantization.gather_qmm(x, experts, rhs_indices: Nx.tensor([1.0]))
        end

        assert_raise ArgumentError, ~r/expected a tensor whose last axis has 64 elements/, fn ->
          Quantization.gather_qmm(Nx.iota({64}), experts, rhs_indices: Nx.tensor([1]))
        end
      end
    end

    describe "take/2" do
      test "gives the rows of the dequantized matrix" do
        for opts <- @some, shape <- [{6, 128}, {6, 2, 128}] do
          table = Quantization.quantize(random(shape, :f32, 1), opts)
          numbers = Quantization.dequantize(table)

          for indices <- [Nx.tensor(3), Nx.tensor([5, 0, 5]), Nx.tensor([[1, 2], [0, 4]])] do
            expected = Nx.take(numbers, indices)
            same!(Quantization.take(table, indices), expected, opts)
            same!(Quantization.take(there(table), there(indices)), expected, opts)
            same!(compiled(&Quantization.take/2, [there(table), there(indices)]), expected, opts)
          end
        end
      end
    end

    describe "programs" do
      @tag :tmp_dir
      test "with quantized weights are fused, and written to files", %{tmp_dir: folder} do
        Nx.default_backend(Emily.Backend)

        for {opts, at} <- Enum.with_index([[], [mode: :nvfp4]]) do
          weight = Quantization.quantize(there(random({4, 64}, :f32, 1)), opts)
          x = there(random({2, 64}, :f32, 2))

          fun = fn x, weight ->
            x |> Quantization.quantized_matmul(weight) |> Nx.negate() |> Nx.add(1)
          end

          expected = fun.(x, weight)

          same!(
            Nx.Defn.jit_apply(fun, [x, weight], compiler: Emily.Compiler, fuse: true),
            expected,
            opts
          )

          path = Path.join(folder, "#{at}")
          Emily.export(fun, [Nx.to_template(x), weight], path)
          same!(Emily.import(path).(x), expected, opts)
        end
      end
    end

    # As it is on every backend, eager and compiled.
    defp assert_gradient(gradient, arguments, expected) do
      natives = Enum.map(arguments, &there/1)
      assert_close(Nx.Defn.jit_apply(gradient, arguments), expected, 1.0e-4)
      assert_close(Nx.Defn.jit_apply(gradient, natives), expected, 1.0e-4)
      assert_close(compiled(gradient, natives), expected, 1.0e-4)
    end

    defp dot(x, %{shape: {_rows, _columns}} = matrix), do: Nx.dot(x, matrix)

    defp dot(x, matrices) do
      x = Nx.broadcast(x, put_elem(Tuple.insert_at(x.shape, 0, 1), 0, elem(matrices.shape, 0)))
      Nx.dot(x, [2], [0], matrices, [1], [0])
    end

    defp assert_close(a, b, most) do
      [a, b] = for x <- [a, b], do: x |> here() |> Nx.as_type(:f64)
      assert a.shape == b.shape
      difference = a |> Nx.subtract(b) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      assert difference <= most
    end
  end
end
