defmodule Emily.MixedPrecision do
  @moduledoc """
  Training in `:bf16` or `:f16` with parameters that stay in `:f32`.

  The forward pass, and with `cast/2` the backward pass, compute in the narrow type, which takes half the memory and is
  faster; the parameters that the optimizer updates, the *master weights*, keep the digits that many small updates need.
  So that small gradients do not vanish in the narrow type, the loss is multiplied by a scale first, and the gradients
  are divided by it after. The scale is dynamic (Micikevicius et al., *Mixed Precision Training*, 2018): where a gradient
  overflows, the step is left out and the scale is halved; after many steps without an overflow it is doubled.

  Everything here is of Nx's own operations, and runs on any backend and compiler.

  ## In defn

      params = %{"w" => Nx.broadcast(0.5, {2, 1})}
      {init, update} = Emily.MixedPrecision.optimizer(Polaris.Optimizers.adam(learning_rate: 0.01))
      state = init.(params)
      scale = Emily.MixedPrecision.scale()

      step =
        Nx.Defn.jit(fn params, state, scale, x, y ->
          {loss, gradients, scale} =
            Emily.MixedPrecision.value_and_grad(params, scale, &MyModel.loss(&1, x, y))

          {updates, state} = update.(gradients, state, params)
          {loss, Polaris.Updates.apply_updates(params, updates), state, scale}
        end)

  `MyModel.loss` meets `params` in `:bf16`. Cast its other floating inputs, and its predictions where the loss itself
  is to be computed in `:f32`, with `cast/2`, or Nx computes in the wider type.

  ## With Axon

      policy = Axon.MixedPrecision.create_policy(params: {:f, 32}, compute: {:bf, 16}, output: {:f, 32})

      model
      |> Axon.MixedPrecision.apply_policy(policy, except: [:batch_norm])
      |> Axon.Loop.trainer(
        :categorical_cross_entropy,
        Emily.MixedPrecision.optimizer(Polaris.Optimizers.adam(learning_rate: 1.0e-3)),
        loss_scale: Emily.MixedPrecision.loss_scale()
      )

  Axon's own `loss_scale: :dynamic` changes the scale after an overflow, but takes the step. Its policy casts with
  `Nx.as_type/2`, so the forward pass is narrow there, and the backward pass in the type of the loss.
  """

  import Nx.Defn

  alias Emily.MixedPrecision.Scale
  alias Nx.Defn.Composite

  @defaults [initial: 32_768, factor: 2, period: 2_000, least: 1]

  @doc """
  The state of a dynamic loss scale, a container of scalars to be passed from step to step.

  ## Options

    * `:initial` - the scale to begin with; `32768` when absent
    * `:factor` - what it is divided by after an overflow and multiplied by after `:period` steps; `2` when absent
    * `:period` - how many steps without an overflow make it grow; `2000` when absent
    * `:least` - it does not fall below this; `1` when absent

  ## Examples

      iex> Emily.MixedPrecision.scale(initial: 1024).scale
      #Nx.Tensor<
        f32
        1024.0
      >

      iex> Emily.MixedPrecision.scale(period: 0)
      ** (ArgumentError) expected :period to be a positive integer, got: 0
  """
  def scale(opts \\ []) do
    opts = Keyword.validate!(opts, @defaults)
    positive = fn value -> is_number(value) and value > 0 end
    check(opts, :initial, "a positive number", positive)
    check(opts, :factor, "a number greater than 1", &(is_number(&1) and &1 > 1))
    check(opts, :period, "a positive integer", &(is_integer(&1) and &1 > 0))
    check(opts, :least, "a positive number", positive)

    %Scale{
      scale: Nx.tensor(opts[:initial], type: :f32),
      good: Nx.tensor(0, type: :s32),
      factor: opts[:factor],
      period: opts[:period],
      least: opts[:least]
    }
  end

  defp check(opts, name, expected, fits?) do
    value = opts[name]

    if not fits?.(value) do
      raise ArgumentError, "expected #{inspect(name)} to be #{expected}, got: #{inspect(value)}"
    end
  end

  @doc """
  The floating tensors of a container as `type`; others stay as they are.

  In the backward pass the gradient is cast back to each tensor's own type. That of `Nx.as_type/2` is not: whatever comes
  before a cast to `:f32` by that would be differentiated in `:f32`.

  ## Examples

      iex> Emily.MixedPrecision.cast({Nx.tensor(1.5), Nx.tensor(2)}, :bf16)
      {Nx.tensor(1.5, type: :bf16), Nx.tensor(2)}
  """
  deftransform cast(container, type \\ :bf16) do
    type = Nx.Type.normalize!(type)

    if not Nx.Type.float?(type) do
      raise ArgumentError, "expected a floating type, got: #{inspect(type)}"
    end

    Composite.traverse(container, fn x ->
      x = Nx.to_tensor(x)
      if match?({kind, _} when kind in [:f, :bf], x.type), do: cast_tensor(x, type), else: x
    end)
  end

  defp cast_tensor(%{data: %Nx.Defn.Expr{}} = x, type) do
    Nx.Defn.Kernel.custom_grad(Nx.as_type(x, type), [x], &[Nx.as_type(&1, x.type)])
  end

  defp cast_tensor(x, type), do: Nx.as_type(x, type)

  @doc """
  A loss, its gradients and the next state of the scale.

  `fun` is given `params` cast to `:type`, and returns a scalar, or what `:transform` makes a scalar of. The loss, or
  whatever `fun` returned, comes back as it is. The gradients have the types of `params` and are not scaled; after an
  overflow some of them are infinite or not numbers, and the step has to be left out: `optimizer/1` does that, or
  `where_finite/3`.

  ## Options

    * `:type` - what the parameters are cast to; `:bf16` when absent
    * `:transform` - takes what `fun` returns and returns the loss; the identity when absent

  ## Examples

      iex> scale = Emily.MixedPrecision.scale()
      iex> loss = fn %{"w" => w} -> Nx.multiply(w, w) end
      iex> {loss, gradients, _scale} = Emily.MixedPrecision.value_and_grad(%{"w" => Nx.tensor(3.0)}, scale, loss)
      iex> {Nx.to_number(loss), gradients["w"]}
      {9.0, Nx.tensor(6.0)}
  """
  deftransform value_and_grad(params, %Scale{} = scale, fun, opts \\ []) do
    opts = Keyword.validate!(opts, type: :bf16, transform: & &1)

    objective = fn params ->
      result = fun.(cast(params, opts[:type]))
      loss = cast(opts[:transform].(result), :f32)
      {result, Nx.multiply(loss, scale.scale)}
    end

    {{result, _loss}, gradients} = Nx.Defn.value_and_grad(params, objective, &elem(&1, 1))
    gradients = divided(gradients, scale.scale)
    {result, gradients, next(scale, finite?(gradients))}
  end

  @doc """
  Whether all floating numbers of a container are finite: a scalar of type `:u8`.

  ## Examples

      iex> Emily.MixedPrecision.finite?(%{a: Nx.tensor([1.0, 2.0]), b: Nx.tensor(3)})
      Nx.tensor(1, type: :u8)
      iex> Emily.MixedPrecision.finite?({Nx.tensor(1.0), Nx.Constants.nan()})
      Nx.tensor(0, type: :u8)
  """
  deftransform finite?(container) do
    Composite.reduce(container, Nx.tensor(1, type: :u8), fn x, finite ->
      x = Nx.to_tensor(x)

      if Nx.Type.integer?(x.type) do
        finite
      else
        Nx.logical_and(
          finite,
          Nx.logical_not(Nx.any(Nx.logical_or(Nx.is_nan(x), Nx.is_infinity(x))))
        )
      end
    end)
  end

  @doc """
  `new` where all of `gradients` are finite, else `old`: two containers of the same shape.

  ## Examples

      iex> Emily.MixedPrecision.where_finite(Nx.Constants.infinity(), %{w: Nx.tensor(2)}, %{w: Nx.tensor(1)})
      %{w: Nx.tensor(1)}
  """
  deftransform where_finite(gradients, new, old) do
    kept(finite?(gradients), new, old)
  end

  @doc """
  The state of the scale after a step whose gradients were `finite` or not, a scalar as of `finite?/1`.

  `value_and_grad/4` does that.

  ## Examples

      iex> scale = Emily.MixedPrecision.scale(initial: 8, period: 1)
      iex> Emily.MixedPrecision.next(scale, 0).scale |> Nx.to_number()
      4.0
      iex> Emily.MixedPrecision.next(scale, 1).scale |> Nx.to_number()
      16.0
  """
  deftransform next(%Scale{} = scale, finite) do
    good = Nx.add(scale.good, 1)
    full = Nx.greater_equal(good, scale.period)
    larger = Nx.multiply(scale.scale, scale.factor)
    # A scale that itself overflows would never be of use again.
    larger = Nx.select(Nx.is_infinity(larger), scale.scale, larger)
    smaller = Nx.max(Nx.divide(scale.scale, scale.factor), scale.least)
    grown = Nx.select(full, larger, scale.scale)

    %{
      scale
      | scale: Nx.as_type(Nx.select(finite, grown, smaller), :f32),
        good: Nx.as_type(Nx.select(Nx.logical_and(finite, Nx.logical_not(full)), good, 0), :s32)
    }
  end

  @doc """
  An optimizer that leaves out steps whose gradients are not all finite: its updates are zero then, and its state stays.

  It takes and returns a pair of functions as Polaris has them, `init.(params)` and
  `update.(gradients, state, params)`.

  ## Examples

      iex> descent = {fn _w -> {} end, fn gradient, {}, _w -> {Nx.multiply(gradient, -0.5), {}} end}
      iex> {init, update} = Emily.MixedPrecision.optimizer(descent)
      iex> w = Nx.tensor([1.0, 2.0])
      iex> update.(Nx.tensor([4.0, 2.0]), init.(w), w)
      {Nx.tensor([-2.0, -1.0]), {}}
      iex> update.(Nx.tensor([:nan, 2.0]), init.(w), w)
      {Nx.tensor([0.0, 0.0]), {}}
  """
  def optimizer({init, update}) when is_function(init, 1) and is_function(update, 3) do
    careful = fn gradients, state, params ->
      finite = finite?(gradients)
      {updates, next} = update.(gradients, state, params)
      none = Composite.traverse(updates, &Nx.broadcast(Nx.tensor(0, type: Nx.type(&1)), &1))
      {kept(finite, updates, none), kept(finite, next, state)}
    end

    {init, careful}
  end

  def optimizer(other) do
    raise ArgumentError,
          "expected an optimizer as Polaris has them, {init, update} of functions with 1 and 3 arguments, got: " <>
            inspect(other)
  end

  @doc """
  What `Axon.Loop.trainer/4` takes as `:loss_scale`: functions that make the state, scale the loss, and return the
  gradients as they were with the next state. Options are those of `scale/1`.

  ## Examples

      iex> {init, scale, unscale} = Emily.MixedPrecision.loss_scale(initial: 4)
      iex> scaled = scale.(Nx.tensor(1.5), init.())
      iex> {gradients, _state} = unscale.(%{"w" => Nx.tensor(8.0)}, init.())
      iex> {Nx.to_number(scaled), Nx.to_number(gradients["w"])}
      {6.0, 2.0}
  """
  def loss_scale(opts \\ []) do
    # Reports a bad option when the loop is made, and not when it runs.
    start = scale(opts)
    options = Map.take(start, [:factor, :period, :least])

    {
      fn -> %{scale: start.scale, good: start.good} end,
      fn loss, state -> Nx.multiply(loss, state.scale) end,
      fn gradients, state ->
        gradients = divided(gradients, state.scale)
        scale = Scale |> struct!(Map.merge(state, options)) |> next(finite?(gradients))
        {gradients, %{scale: scale.scale, good: scale.good}}
      end
    }
  end

  defp divided(gradients, scale) do
    Composite.traverse(gradients, fn x ->
      x = Nx.to_tensor(x)
      Nx.as_type(Nx.divide(x, scale), x.type)
    end)
  end

  # Both containers have the same tensors in the same order.
  defp kept(finite, new, old) do
    olds = Composite.flatten_list([old])

    {container, []} =
      Composite.traverse(new, olds, fn x, [old | rest] ->
        {Nx.as_type(Nx.select(finite, x, old), Nx.type(x)), rest}
      end)

    container
  end
end
