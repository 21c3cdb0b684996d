defmodule Emily.MixedPrecision.Scale do
  @moduledoc """
  The state of a dynamic loss scale, as `Emily.MixedPrecision.scale/1` makes it.

    * `:scale` - what the loss is multiplied by, a scalar of type `:f32`
    * `:good` - how many steps there were since it last changed, a scalar of type `:s32`

  The other fields are the options that it was made with.
  """

  @derive {Nx.Container, containers: [:scale, :good], keep: [:factor, :period, :least]}
  @enforce_keys [:scale, :good, :factor, :period, :least]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          scale: Nx.Tensor.t(),
          good: Nx.Tensor.t(),
          factor: number,
          period: pos_integer,
          least: number
        }
end
