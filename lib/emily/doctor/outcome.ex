defmodule Emily.Doctor.Outcome do
  @moduledoc """
  What one check of `Emily.Doctor` found.

  A problem (a warning or an error) always carries its next step: the command to run, or where a
  command cannot help, the thing to do. A check that found nothing wrong never has one.
  """

  @enforce_keys [:status, :message]
  defstruct [:status, :message, :next, details: [], facts: %{}]

  @type status :: :ok | :warning | :error | :skipped

  @type t :: %__MODULE__{
          status: status(),
          message: String.t(),
          next: String.t() | nil,
          details: [{label :: String.t(), value :: String.t()}],
          facts: map()
        }

  @doc """
  Nothing is wrong. `:facts` are handed to the checks that need this one.
  """
  @spec ok(String.t(), details: list(), facts: map()) :: t()
  def ok(message, options \\ []), do: build(:ok, message, nil, options)

  @doc "Emily works, but not as well as it could; `next` is what to do about it."
  @spec warning(String.t(), String.t(), details: list(), facts: map()) :: t()
  def warning(message, next, options \\ []), do: build(:warning, message, next, options)

  @doc "Emily does not work, or cannot be trusted to; `next` is what to do about it."
  @spec error(String.t(), String.t(), details: list()) :: t()
  def error(message, next, options \\ []), do: build(:error, message, next, options)

  @doc "The check did not run, for this reason."
  @spec skipped(String.t()) :: t()
  def skipped(reason), do: build(:skipped, reason, nil, [])

  @doc "Whether a check that needs this one may run."
  @spec passed?(t()) :: boolean()
  def passed?(%__MODULE__{status: status}), do: status in [:ok, :warning]

  defp build(status, message, next, options) do
    struct!(__MODULE__, [status: status, message: message, next: next] ++ options)
  end
end
