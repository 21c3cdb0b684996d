defmodule Emily.Backend.Device do
  @moduledoc false
  # Where tensors are computed, and what can be computed there.

  alias Emily.Native.DefaultStream

  @doc "Refuses what is no device; nil leaves the choice to Emily."
  def validate!(device) when device in [nil, :cpu, :gpu], do: :ok

  def validate!(other),
    do: raise(ArgumentError, "expected :device to be :cpu or :gpu, got: #{inspect(other)}")

  @doc "The device that a backend's options ask for, or the default one."
  def of_options([]), do: DefaultStream.device()

  def of_options(options) do
    device = options[:device]
    validate!(device)
    device || DefaultStream.device()
  end

  @doc "The stream that computes on a device."
  def stream(device), do: DefaultStream.get(device)

  @doc "Refuses types that MLX cannot compute with on a device."
  def check_type!({:c, 128}, device) do
    raise ArgumentError,
          "expected a type that MLX computes with on :#{device}, got: {:c, 128}; " <>
            "use {:c, 64} (for example `Nx.as_type(tensor, :c64)` before the tensor is moved to Emily)"
  end

  def check_type!({:f, 64}, :gpu) do
    if metal?() do
      raise ArgumentError,
            "expected a type that MLX computes with on :gpu (Metal has no 64-bit floats), " <>
              "got: {:f, 64}; use {:f, 32}, or compute on the CPU with " <>
              "`Nx.default_backend({Emily.Backend, device: :cpu})`"
    end
  end

  def check_type!(_type, _device), do: :ok

  defp metal?, do: match?({:unix, :darwin}, :os.type())
end
