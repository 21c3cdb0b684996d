defmodule Emily.Doctor.Checks.Runtime do
  @moduledoc "Whether Elixir and Erlang/OTP are new enough."
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.Outcome

  # mix.exs holds the requirement; this module is compiled in its project.
  @elixir Mix.Project.config()[:elixir]
  @otp 27

  @impl true
  def run(%{elixir: elixir, host: %{otp: otp, nif: nif}}, _facts) do
    cond do
      not Version.match?(elixir, @elixir) ->
        Outcome.error(
          "expected Elixir #{@elixir}, got: #{elixir}",
          "install a newer Elixir: https://elixir-lang.org/install.html"
        )

      otp_major(otp) < @otp ->
        Outcome.error(
          "expected Erlang/OTP #{@otp} or newer, got: #{otp}",
          "install a newer Erlang/OTP: https://www.erlang.org/downloads"
        )

      true ->
        Outcome.ok("Elixir #{elixir}, OTP #{otp}, NIF #{nif}")
    end
  end

  # A release candidate calls itself "28-rc3".
  defp otp_major(release) do
    {major, _rest} = Integer.parse(release)
    major
  end
end
