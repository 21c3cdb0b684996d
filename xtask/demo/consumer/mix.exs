defmodule Consumer.MixProject do
  use Mix.Project

  # A project that uses Emily as any other does; the package, as Hex ships it, lies beside it.
  def project do
    [app: :consumer, version: "0.1.0", elixir: "~> 1.18", deps: [{:emily, path: "../emily"}]]
  end

  def application, do: [extra_applications: [:logger]]
end
