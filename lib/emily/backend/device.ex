defmodule Emily.Backend.Device do
  @moduledoc false
  # Where tensors are computed.

  alias Emily.Stream

  @doc "Refuses what is no device; nil leaves the choice to Emily."
  def validate!(device) when device in [nil, :cpu, :gpu], do: :ok

  def validate!(other),
    do: raise(ArgumentError, "expected :device to be :cpu or :gpu, got: #{inspect(other)}")

  @doc "The device that a backend's options ask for, or the default one."
  def of_options([]), do: Stream.device()

  def of_options(options) do
    device = options[:device]
    validate!(device)
    device || Stream.device()
  end

  @doc "The stream that computes on a device."
  def stream(device), do: Stream.reference(device)
end
