defmodule Emily.Fallback do
  @moduledoc """
  The one way off the device.

  Emily computes with MLX whatever Nx asks for. What cannot be said in MLX's operations goes through
  `run/3`, which moves the tensors to `Nx.BinaryBackend`, computes there, and moves the result back:

    * `Nx.reduce/4` and `Nx.window_reduce/5` in a `defn` that `Nx.Defn.Evaluator` runs, where their
      function has a `cond` or a `while`, or makes a tensor that is no scalar

  ## Policy

  `config :emily, fallback: …` says what is to happen:

    * `:warn` - computes, and logs a warning; the default
    * `:silent` - computes
    * `:raise` - raises `Emily.Error`

  The older `config :emily, warn_on_fallback: true` means `:warn`, and `false` means `:silent`.

  ## Telemetry

  Whatever the policy, a fallback is a span of `Emily.Telemetry`.
  """

  require Logger

  alias Emily.{Backend, Settings, Telemetry}
  alias Nx.Tensor, as: T

  @doc """
  Computes `fun` on copies of `tensors` that belong to `Nx.BinaryBackend`, and returns its result on
  the device that `tensors` came from.

  `operation` is its name and `reason` says why MLX cannot compute it.
  """
  @spec run({atom(), String.t()}, [T.t()], ([T.t()] -> T.t())) :: T.t()
  def run({operation, reason}, tensors, fun) do
    [device | _same] = for %T{data: %Backend{device: device}} <- tensors, do: device

    Telemetry.fallback({operation, reason}, tensors, device, fn ->
      obey(Settings.load().fallback, operation, reason)
      copies = Enum.map(tensors, &Nx.backend_copy(&1, Nx.BinaryBackend))
      result = Nx.with_default_backend(Nx.BinaryBackend, fn -> fun.(copies) end)
      Nx.backend_transfer(result, {Backend, device: device})
    end)
  end

  defp obey(:silent, _operation, _reason), do: :ok
  defp obey(:warn, operation, reason), do: Logger.warning(sentence(operation, reason))

  defp obey(:raise, operation, reason) do
    raise Emily.Error,
      reason: "#{sentence(operation, reason)}, which `config :emily, fallback: :raise` forbids"
  end

  defp sentence(operation, reason),
    do: "Nx.#{operation} leaves MLX for Nx.BinaryBackend, because #{reason}"
end
