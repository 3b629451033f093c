"""Alert mails: composed purely, sent from the outbox, at least once and recognisably the same."""
