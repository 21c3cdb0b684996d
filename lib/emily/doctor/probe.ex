defmodule Emily.Doctor.Probe do
  @moduledoc """
  What the doctor tries out on the native library: loading it, computing something whose result is
  known, and timing the CPU.
  """

  @doc "Loads the library, and starts what it needs."
  @spec load() :: :ok | {:error, String.t()}
  def load do
    started = Application.ensure_all_started(:emily)

    case {Emily.Native.load_error(), started} do
      {nil, {:ok, _apps}} -> :ok
      {nil, {:error, {_app, reason}}} -> {:error, Application.format_error(reason)}
      {reason, _started} -> {:error, reason}
    end
  end
end
