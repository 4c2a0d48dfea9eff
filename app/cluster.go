package app

import (
	"errors"

	"github.com/spf13/cobra"

	"studioworker/studio"
)

// clusterFlags adds the flags of a command that works on a NATS cluster.
func clusterFlags(cmd *cobra.Command, c *studio.Cluster) {
	flags := cmd.Flags()
	flags.StringVar(&c.URL, "nats", "", "share a NATS JetStream cluster: nats:// or tls:// addresses with commas between (default: a store of its own)")
	flags.StringVar(&c.Creds, "nats-creds", "", "credentials for the cluster: a file with a user's JWT and seed, or with the seed of an nkey")
	flags.StringVar(&c.CA, "nats-ca", "", "PEM file of the authority that signed the servers' certificates")
	flags.StringVar(&c.Cert, "nats-cert", "", "PEM file of the certificate to show to the servers, with --nats-key")
	flags.StringVar(&c.Key, "nats-key", "", "PEM file of that certificate's key")
	flags.StringSliceVar(&c.Monitors, "nats-monitor", nil, "monitoring addresses of the servers, to check that they sync each write")
}

// useCluster puts the flags into the config of a studio.
func useCluster(cfg *studio.Config, c studio.Cluster) error {
	switch {
	case c.URL == "" && (c.Creds != "" || c.CA != "" || c.Cert != "" || c.Key != "" || len(c.Monitors) > 0):
		return usageError{errors.New("the flags --nats-... go with --nats, which says where the cluster is")}
	case (c.Cert == "") != (c.Key == ""):
		return usageError{errors.New("--nats-cert and --nats-key go together")}
	case c.URL != "":
		cfg.Cluster = &c
	}
	return nil
}
