defmodule Emily.Fast do
  @moduledoc """
  Operations of language models, to be called anywhere, inside `defn` as well.

  On Emily each is one operation of the native core, eager and compiled, but for `einsum/2`, which is several. On any other backend or compiler it is what it stands for, made of Nx's own operations, and so is its
  gradient everywhere. The single operations take tensors of `:f32`, `:f16` and `:bf16`; of another type, and of
  vectorized tensors, Nx's operations are used on Emily, too.

  Results have the type of the first tensor, or the floating type that Nx gives an integer one. Sums and
  exponentials are computed in `:f32` at least.
  """

  import Nx.Defn, only: [deftransform: 2]

  alias Emily.Fast.{Attention, Einsum, LayerNorm, RmsNorm, Rope}

  @doc """
  Divides by the root of the mean of squares along the last axis, and multiplies with `weight`.

  `weight` has the sizes of the last axis, or of several last axes.

  ## Options

    * `:epsilon` - is added to the mean of squares; `1.0e-6` when absent

  ## Examples

      iex> x = Nx.tensor([[1.0, 7.0], [3.0, 4.0]])
      iex> Emily.Fast.rms_norm(x, Nx.tensor([5.0, 10.0]), epsilon: 0.0) |> Nx.round()
      #Nx.Tensor<
        f32[2][2]
        [
          [1.0, 14.0],
          [4.0, 11.0]
        ]
      >
  """
  deftransform rms_norm(x, weight, opts \\ []) do
    [epsilon: epsilon] = Keyword.validate!(opts, epsilon: 1.0e-6)
    RmsNorm.apply(x, weight, epsilon)
  end

  @doc """
  Subtracts the mean along the last axis, divides by the standard deviation, multiplies with `weight` and adds
  `bias`, both as long as the last axis.

  ## Options

    * `:epsilon` - is added to the variance; `1.0e-5` when absent

  ## Examples

      iex> x = Nx.tensor([[1.0, 3.0], [10.0, 30.0]])
      iex> Emily.Fast.layer_norm(x, Nx.tensor([1.0, 2.0]), Nx.tensor([0.0, 0.5])) |> Nx.multiply(10) |> Nx.round()
      #Nx.Tensor<
        f32[2][2]
        [
          [-10.0, 25.0],
          [-10.0, 25.0]
        ]
      >
  """
  deftransform layer_norm(x, weight, bias, opts \\ []) do
    [epsilon: epsilon] = Keyword.validate!(opts, epsilon: 1.0e-5)
    LayerNorm.apply(x, weight, bias, epsilon)
  end

  @doc """
  Rotary position embedding: turns pairs of features by angles that grow with the position.

  `x` is `{batch, …, positions, features}`. `offset` is the position of the first one: an integer, or an integer
  tensor that is a scalar or has one entry for each row of the batch.

  ## Options

    * `:dims` - how many of the features are turned, an even number; all of them when absent
    * `:traditional` - whether pairs are neighbours; when absent one is from each half
    * `:base` - pair `i` is turned by `base ** (-2 * i / dims)` for each position; `10_000` when absent
    * `:frequencies` - in place of `:base`, a tensor with what each pair's position is divided by
    * `:scale` - what positions are multiplied with; `1.0` when absent

  ## Examples

      iex> x = Nx.tensor([[[1.0, 0.0], [1.0, 0.0]]])
      iex> Emily.Fast.rope(x, 0) |> Nx.multiply(100) |> Nx.round()
      #Nx.Tensor<
        f32[1][2][2]
        [
          [
            [100.0, 0.0],
            [54.0, 84.0]
          ]
        ]
      >
  """
  deftransform rope(x, offset, opts \\ []) do
    opts =
      Keyword.validate!(opts, [:dims, :base, :frequencies, traditional: false, scale: 1.0])

    Rope.apply(x, offset, opts)
  end

  @doc """
  What each position of the query makes of the values, weighted by how well its features match the keys'.

  Query, key and value are `{batch, heads, positions, features}`. The query's heads are a multiple of the others',
  each of which serves that many in a row.

  ## Options

    * `:scale` - what scores are multiplied with; one over the root of the features when absent
    * `:mask` - a tensor that broadcasts to `{batch, heads, positions, key_positions}`: of integers, not zero where to
      look; of floats, added to the scores
    * `:causal` - whether to look at no later position; the last one of the query is the last one of the key
    * `:sinks` - a tensor with a score for each head of the query, which takes a share of the weights and adds nothing

  A position that may look nowhere gives the mean of all values, where the mask is of integers or the position before
  the first one that `:causal` shows; and NaN, where a mask of floats makes all of its scores minus infinity. With
  sinks, which take all, it gives zeros. So it is on the CPU and where Nx's operations compute it; GPUs' kernels of MLX's
  may give zeros or NaN for the mean.

  ## Examples

      iex> x = Nx.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
      iex> Emily.Fast.scaled_dot_product_attention(x, x, x, causal: true) |> Nx.multiply(100) |> Nx.round()
      #Nx.Tensor<
        f32[1][1][2][2]
        [
          [
            [
              [100.0, 0.0],
              [33.0, 67.0]
            ]
          ]
        ]
      >
  """
  deftransform scaled_dot_product_attention(query, key, value, opts \\ []) do
    opts = Keyword.validate!(opts, [:scale, :mask, :sinks, causal: false])
    Attention.apply(query, key, value, opts)
  end

  @doc """
  Sums products of tensors over axes that are named by letters, as NumPy's `einsum` does.

  `subscripts` has the axes of each tensor, with commas between them, and after an arrow those of the result. An
  axis without a place in the result is summed over. Where the arrow is left out, the result has what occurs once, in
  the alphabet's order. An ellipsis stands for any axes in front of or between named ones.

  ## Examples

      iex> Emily.Fast.einsum("ij,jk->ki", [Nx.tensor([[1, 2], [3, 4]]), Nx.tensor([[1, 0], [1, 1]])])
      #Nx.Tensor<
        s32[2][2]
        [
          [3, 7],
          [2, 4]
        ]
      >

      iex> Emily.Fast.einsum("ii", [Nx.tensor([[1, 2], [3, 4]])]) |> Nx.to_number()
      5
  """
  deftransform einsum(subscripts, tensors) do
    Einsum.apply(subscripts, tensors)
  end
end
