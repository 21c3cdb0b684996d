defmodule Emily.Artifact.Retry do
  @moduledoc """
  Repeats what failed for a passing reason, after a delay that doubles each time.

  Before each delay it says the cause, the delay and the attempts left.
  """

  alias Emily.Artifact.{HttpError, Http}

  defstruct attempts: 4, delay_ms: 1_000, max_delay_ms: 60_000, sleep: &Process.sleep/1

  @type t :: %__MODULE__{
          attempts: pos_integer(),
          delay_ms: non_neg_integer(),
          max_delay_ms: non_neg_integer(),
          sleep: (non_neg_integer() -> any())
        }

  @doc """
  Calls the function with a state until it succeeds, fails for good or has no attempts left.

  The function answers `{:ok, value}`, `{:error, error, state}`, or `{:progress, error, state}`
  when it failed but got further than before; progress gives back all attempts.
  """
  @spec run(t(), (String.t() -> any()), state, (state ->
                                                  {:ok, value}
                                                  | {:error, Exception.t(), state}
                                                  | {:progress, Exception.t(), state})) ::
          {:ok, value} | {:error, Exception.t()}
        when state: var, value: var
  def run(%__MODULE__{} = retry, say, state, function),
    do: attempt(retry, say, state, function, 1)

  defp attempt(retry, say, state, function, number) do
    case function.(state) do
      {:ok, value} ->
        {:ok, value}

      {:progress, error, state} ->
        again(retry, say, state, function, error, 1)

      {:error, error, state} ->
        again(retry, say, state, function, error, number)
    end
  end

  defp again(retry, say, state, function, %HttpError{} = error, number) do
    left = retry.attempts - number

    if HttpError.transient?(error) and left > 0 do
      delay = delay(retry, error, number)
      say.(notice(error, delay, left))
      retry.sleep.(delay)
      attempt(retry, say, state, function, number + 1)
    else
      {:error, %{error | attempts: number}}
    end
  end

  defp again(_retry, _say, _state, _function, error, _number), do: {:error, error}

  defp delay(retry, %HttpError{retry_after: seconds}, _number) when is_integer(seconds) do
    min(seconds * 1000, retry.max_delay_ms)
  end

  defp delay(retry, _error, number) do
    min(retry.delay_ms * Integer.pow(2, number - 1), retry.max_delay_ms)
  end

  defp notice(error, delay, left) do
    attempts = if left == 1, do: "1 attempt left", else: "#{left} attempts left"

    "#{Http.shown(error.url)}: #{HttpError.cause(error)}; trying again in #{delay / 1000} s, #{attempts}"
  end
end
