defmodule Emily.Generation.Sampler.State do
  @moduledoc """
  What `Emily.Generation.Sampler` carries from token to token: the key of its random numbers, how many it has
  drawn, and the last tokens of each row, or `{}` if nothing asks for them.
  """

  @derive {Nx.Container, containers: [:key, :drawn, :recent]}
  @enforce_keys [:key, :drawn, :recent]
  defstruct [:key, :drawn, :recent]

  @type t :: %__MODULE__{key: Nx.Tensor.t(), drawn: Nx.Tensor.t(), recent: Nx.Tensor.t() | {}}
end
